"""How a report looks: on a screen, on a telephone, on paper."""

PAGE_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff;
  max-width: 72rem; margin: 0 auto; padding: 1.5rem; overflow-wrap: anywhere; }
header { border-bottom: 3px solid #0072B2; margin-bottom: 1rem; }
h1 { margin: 0 0 .2rem; line-height: 1.2; }
header p { margin: 0 0 .5rem; color: #444; }
h2 { margin: 2.4rem 0 .6rem; color: #005a8e; border-bottom: 1px solid #ccc; }
h3 { margin: 1.6rem 0 .4rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
a { color: #005a8e; }
.cards { display: grid; gap: .8rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(14rem, 100%), 1fr)); }
.card { border: 1px solid #bbb; border-left: 6px solid #0072B2; padding: .5rem .8rem; }
.card .name, .card .said { font-size: .85rem; color: #444; }
.card .value { font-size: 1.7rem; font-weight: 600; line-height: 1.3; }
.table { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-size: .92rem; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #ddd;
  overflow-wrap: normal; }
td.long { min-width: 14rem; overflow-wrap: anywhere; }
th { border-bottom: 2px solid #555; vertical-align: bottom; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.figures { columns: 28rem 2; column-gap: 1.5rem; margin: 1rem 0; }
figure { margin: 0 0 1.2rem; break-inside: avoid; }
figure.wide { column-span: all; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: #444; font-size: .88rem; margin-top: .3rem; }
@media (max-width: 30rem) {
  body { padding: .8rem; }
  h1 { font-size: 1.5rem; }
  th, td { padding: .2rem .4rem; }
}
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  nav { display: none; }
  a { color: inherit; text-decoration: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, .card { break-inside: avoid; }
  thead { display: table-header-group; }
  .table { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: .15rem .35rem; }
  td.long { min-width: 0; }
  .figures { columns: 2; }
  img { max-height: 20cm; }
}
"""
