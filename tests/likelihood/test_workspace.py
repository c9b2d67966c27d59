"""Workspaces: the same results as pyhf's own tools, and clear errors for everything broken."""

from __future__ import annotations

import copy
import gzip
import io
import json
import time
import zlib

import jax.numpy as jnp
import jsonpatch
import numpy as np
import pyhf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difana._errors import ModelError
from difana.likelihood import (
    apply_patch,
    combine,
    digest,
    from_workspace,
    prune,
    read_patchset,
    read_workspace,
    rename,
    sort_workspace,
    to_workspace,
)
from difana.likelihood.formats._json import read_json

SAMPLE = ("channels", 0, "samples", 0)
MODIFIERS = (*SAMPLE, "modifiers")


def change(spec, path, value):
    spec = copy.deepcopy(spec)
    target = spec
    for key in path[:-1]:
        target = target[key]
    if value is KeyError:
        del target[path[-1]]
    elif callable(value):
        target[path[-1]] = value(target[path[-1]])
    else:
        target[path[-1]] = value
    return spec


def twice(entries):
    return [*entries, entries[0]]


BROKEN = [
    (("channels",), KeyError, "the key 'channels' is missing"),
    (("channels",), [], "channels: the list is empty"),
    (("channels",), twice, "two channels are called 'SR'"),
    (("channels", 0), 5, r"channels\[0\]: expected an object, not a int"),
    (("channels", 0, "name"), 5, "a name must be a string, not a int"),
    (("channels", 0, "name"), "\ud800", "is not valid Unicode"),
    (("channels", 0, "smaples"), [], r"unknown key 'smaples'. Did you mean 'samples'"),
    (("channels", 0, "samples"), twice, "two samples are called 'signal'"),
    (("channels", 0, "samples"), {}, "expected a list, not a dict"),
    ((*SAMPLE, "data"), [1.0], r"samples\[1\] 'ttbar'/data: 3 numbers where 1"),
    ((*SAMPLE, "data"), [], "data: the list is empty"),
    ((*SAMPLE, "data", 1), float("nan"), r"'signal'/data/1: the number nan is not finite"),
    ((*SAMPLE, "data", 0), float("inf"), "the number inf is not finite"),
    ((*SAMPLE, "data", 0), 1e308, r"the number 1e\+308 is not finite or beyond 1e\+100"),
    ((*SAMPLE, "data", 0), 10**400, r"beyond 1e\+100"),
    ((*SAMPLE, "data", 0), "5", "data/0: expected a number, not a str"),
    ((*SAMPLE, "data", 0), True, "expected a number, not a bool"),
    ((*SAMPLE, "data", 0), [1.0], "expected a number, not a list"),
    (MODIFIERS, twice, "stands twice in this sample"),
    ((*MODIFIERS, 0, "type"), "normfaktor", r"'normfaktor'. Did you mean 'normfactor'"),
    ((*MODIFIERS, 0, "type"), ["x"], "a name must be a string, not a list"),
    ((*MODIFIERS, 0, "data"), [1.0], "expected null, not a list"),
    ((*MODIFIERS, 0, "data"), KeyError, "the key 'data' is missing"),
    ((*MODIFIERS, 0, "extra"), 1, "unknown key 'extra'"),
    ((*MODIFIERS, 1, "name"), "luminosity", "must be called 'lumi'"),
    ((*MODIFIERS, 2, "data", "hi"), "1.1", r"normsys 'norm'/\[hi, lo\]/0: expected a number"),
    ((*MODIFIERS, 2, "data"), {"hi": 1.0}, "the key 'lo' is missing"),
    (("channels", 0, "samples", 1, "modifiers", 1, "data", "hi_data"), [1.0],
     r"samples\[1\] 'ttbar'/modifiers\[1\] histosys 'shape'/hi_data: 1 numbers where 3"),
    (("channels", 0, "samples", 1, "modifiers", 2, "data"), [1.0], "staterror 'stat_SR'/data: 1"),
    (("observations",), twice, "two observations are called 'SR'"),
    (("observations", 0, "data"), [1.0], r"observations\[0\] 'SR'/data: 1 numbers where 3"),
    (("measurements",), [], "measurements: the list is empty"),
    (("measurements",), twice, "two measurements are called 'meas'"),
    (("measurements", 0, "config", "poi"), None, "a name must be a string, not null"),
    (("measurements", 0, "config", "parameters"), twice, "two parameters are called 'lumi'"),
    (("measurements", 0, "config", "parameters", 0, "sigma"), [1], "Did you mean 'sigmas'"),
    (("measurements", 0, "config", "parameters", 0, "bounds"), [[0.0]], "1 numbers where 2"),
    (("measurements", 0, "config", "parameters", 0, "fixed"), 1, "expected true, false"),
    (("version",), "2.0.0", "version: expected '1.0.0', not '2.0.0'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_broken_workspaces(path, value, message, specs):
    with pytest.raises(ModelError, match=message) as caught:
        read_workspace(change(specs["everything"], path, value))
    assert str(caught.value).startswith("not a valid pyhf workspace: ")


def test_what_the_schema_of_pyhf_refuses_is_refused(specs):
    """The own check is at least as strict, and accepts every good workspace."""
    for spec in specs.values():
        pyhf.schema.validate(read_workspace(spec), "workspace.json")
    refused = 0
    for path, value, _ in BROKEN:
        spec = change(specs["everything"], path, value)
        try:
            pyhf.schema.validate(spec, "workspace.json")
        except pyhf.exceptions.InvalidSpecification:
            refused += 1
            with pytest.raises(ModelError):
                read_workspace(spec)
    assert refused >= 20


def test_a_negative_factor_and_a_missing_observation(specs):
    spec = change(specs["everything"], (*MODIFIERS, 2, "data", "lo"), -0.1)
    with pytest.raises(ModelError, match=r"sample 'signal', normsys 'norm': a factor is negative"):
        from_workspace(spec)
    spec = change(specs["everything"], ("observations", 0, "name"), "SRR")
    with pytest.raises(ModelError, match=r"'SR' has no observation. Did you mean 'SRR'"):
        from_workspace(spec)


HOSTILE = {
    "empty": (b"", "is empty"),
    "spaces": (b" " * 100_000_000, "is empty"),
    "cut": (b'{"channels": [', "is not JSON"),
    "list": (b"[1, 2]", "expected a JSON object"),
    "NaN": (b'{"a": NaN}', "the literal NaN"),
    "Infinity": (b'{"a": -Infinity}', "the literal -Infinity"),
    "latin": ('{"name": "µ"}'.encode("latin-1"), "is not UTF-8: .* at byte 10"),
    "binary": (b"\x80\x04\x95", "is not JSON"),
    "key twice": (b'{"a": {"name": "x", "b": 1, "b": 2}}', r"'b' stands twice .*called 'x'"),
    "key twice, colons": (rb'{"a:": ":", "b" : "\":", "b" : 2}', "'b' stands twice"),
    "key twice, escapes": (rb'{"a": "\u003a", "b": 1, "b": 2}', "'b' stands twice"),
    "deep": (b'{"a":' * 100_000, "nested too deeply|is not JSON"),
    "deep and closed": (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "nested too deeply"),
    "digits": (b'{"a": ' + b"9" * 10_000 + b"}", "is not JSON|channels"),
    "broken gzip": (b"\x1f\x8b\x08\x00junk", "broken gzip"),
    "cut gzip": (gzip.compress(b'{"a": 1}' * 1000)[:-20], "broken gzip"),
    "100 MB string": (b'{"version": "' + b"x" * 100_000_000 + b'"}', "'channels' is missing"),
    "100 MB list": (b"[" + b" " * 100_000_000 + b"]", "expected a JSON object"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    content, message = HOSTILE[name]
    path = tmp_path / "workspace.json"
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(ModelError, match=message) as caught:
        from_workspace(path)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - start < 30  # a hang, not a figure
    with pytest.raises(ModelError, match=message):
        from_workspace(io.BytesIO(content))


def test_a_gzip_bomb_is_stopped(tmp_path, monkeypatch):
    squeeze = zlib.compressobj(9, wbits=31)
    block = b" " * (1 << 20)
    bomb = b"".join(squeeze.compress(block) for _ in range(128)) + squeeze.flush()
    assert len(bomb) < 200_000
    (tmp_path / "bomb.json.gz").write_bytes(bomb)
    with pytest.raises(ModelError, match=r"unfolds from \d+ to more than \d+ bytes"):
        from_workspace(tmp_path / "bomb.json.gz")


def test_files_streams_and_other_sources(tmp_path, specs):
    text = json.dumps(specs["everything"]).encode()
    model, data = from_workspace(specs["everything"])
    path = tmp_path / "workspace.json.gz"
    path.write_bytes(gzip.compress(text[:500]) + gzip.compress(text[500:]))  # two members
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + text)
    for source in (path, str(path), io.BytesIO(text), tmp_path / "bom.json"):
        again, again_data = from_workspace(source)
        assert again.structure == model.structure
        np.testing.assert_array_equal(data, again_data)
    with pytest.raises(ModelError, match=r"no workspace file .*Did you mean 'workspace.json.gz'"):
        from_workspace(tmp_path / "worksapce.json.gz")
    with pytest.raises(ModelError, match=r"no workspace file"):
        from_workspace(tmp_path)
    with pytest.raises(ModelError, match="expected a path or a mapping, not int"):
        read_workspace(5)
    assert read_json(io.BytesIO(b"[1]"), lists=True) == [1]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(':"\\ u0'),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(':"a'), inner),
        max_leaves=8,
    )
)
@settings(max_examples=200, deadline=None)
def test_what_is_read_is_what_json_reads(tree):
    for text in (json.dumps(tree), json.dumps(tree, indent=1, ensure_ascii=False)):
        if isinstance(tree, (dict, list)) and "Infinity" not in text:
            found = read_json(io.BytesIO(text.encode("utf-8")), lists=True)
            assert repr(found) == repr(json.loads(text))


# patches


def test_patches_are_those_of_jsonpatch():
    document = {"a": [1, {"b": 2}, [3, 4]], "c/d": {"e~f": 5}, "": 6}
    for operations in (
        [{"op": "add", "path": "/a/1", "value": 9}, {"op": "add", "path": "/a/-", "value": []}],
        [{"op": "add", "path": "/new", "value": {"x": 1}},
         {"op": "add", "path": "/new/y", "value": 2}],
        [{"op": "replace", "path": "/c~1d/e~0f", "value": 7}, {"op": "remove", "path": "/a/1/b"}],
        [{"op": "copy", "from": "/a/2", "path": "/copy"},
         {"op": "add", "path": "/copy/0", "value": 0},
         {"op": "replace", "path": "/a/2/0", "value": -1}],
        [{"op": "move", "from": "/a/2", "path": "/a/0"},
         {"op": "test", "path": "/a/0", "value": [3, 4]}],
        [{"op": "replace", "path": "", "value": [1]}],
        [{"op": "test", "path": "/", "value": 6}],
        [],
    ):  # fmt: skip
        before = copy.deepcopy(document)
        assert apply_patch(document, operations) == jsonpatch.apply_patch(document, operations)
        assert document == before


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    first=st.recursive(
        st.integers(-3, 3) | st.booleans() | st.sampled_from(["a", "b"]),
        lambda child: st.lists(child, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), child),
        max_leaves=8,
    ),
    second=st.recursive(
        st.integers(-3, 3),
        lambda child: st.lists(child, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), child),
        max_leaves=8,
    ),
)
def test_random_patches(first, second):
    first, second = {"x": first}, {"x": second}
    operations = list(jsonpatch.make_patch(first, second))
    assert apply_patch(first, operations) == second


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "add", "path": "/channels/9/samples/-", "value": 1}, "position 9 is beyond"),
        ({"op": "add", "path": "/chanels/0", "value": 1}, r"no 'chanels'. Did you mean 'channels'"),
        ({"op": "add", "path": "/channels/x", "value": 1}, "'x' is no position in a list"),
        ({"op": "add", "path": "/channels/01", "value": 1}, "'01' is no position"),
        ({"op": "add", "path": "/version/0", "value": 1}, "'0' is asked of a str"),
        ({"op": "add", "path": "channels", "value": 1}, "a path starts with '/'"),
        ({"op": "add", "path": ["channels"], "value": 1}, "a path starts with '/'"),
        ({"op": "add", "path": "/channels/-"}, "the key 'value' is missing"),
        ({"op": "remove", "path": "/gone"}, "there is no 'gone'"),
        ({"op": "remove", "path": ""}, "cannot be removed"),
        ({"op": "test", "path": "/version", "value": "2"}, "the test fails"),
        ({"op": "move", "from": "/channels", "path": "/channels/0"}, "moved into itself"),
        ({"op": "copy", "path": "/channels"}, "the key 'from' is missing"),
        ({"op": "merge", "path": "/channels"}, "no operation 'merge'"),
        (5, "expected an object, not a int"),
    ],
)
def test_broken_patches(operation, message, specs):
    with pytest.raises(ModelError, match=r"patch operation 0.*" + message):
        from_workspace(specs["everything"], patches=[[operation]])


def test_a_patch_that_breaks_the_workspace(specs, tmp_path):
    with pytest.raises(ModelError, match="not a JSON patch: expected a list"):
        apply_patch({}, {"a": 1})
    path = tmp_path / "patch.json"
    path.write_text('[{"op": "remove", "path": "/channels/0/samples"}]')
    with pytest.raises(ModelError, match=r"channels\[0\]: the key 'samples' is missing"):
        from_workspace(specs["everything"], patches=[path])


def patchset(spec, **more):
    patch = [{"op": "replace", "path": "/channels/0/samples/0/data/0", "value": 3.5}]
    point = {"metadata": {"name": "point", "values": [700, "x"]}, "patch": patch}
    return {
        "metadata": {
            "references": {"hepdata": "ins1234567"},
            "description": "one point",
            "labels": ["m1", "m2"],
            "digests": {"md5": digest(spec, algorithm="md5"), "sha256": digest(spec)},
        },
        "patches": [point],
        "version": "1.0.0",
    } | more


def test_patch_sets_are_those_of_pyhf(specs):
    spec = specs["everything"]
    ours, theirs = read_patchset(patchset(spec)), pyhf.PatchSet(patchset(spec))
    assert (len(ours), list(ours), ours.labels) == (1, ["point"], ("m1", "m2"))
    assert ours.digests == theirs.digests
    for key in ("point", (700, "x")):
        assert dict(ours.apply(spec, key)) == dict(theirs.apply(spec, key))
    with pytest.raises(ModelError, match=r"no point 'piont' in the patch set. Did you mean"):
        ours.apply(spec, "piont")
    with pytest.raises(ModelError, match=r"no point at m1, m2 = \(1, 2\)"):
        ours.operations((1, 2))
    other = change(spec, ("channels", 0, "name"), "other")
    with pytest.raises(ModelError, match="the patch set is for another workspace: its md5 is"):
        ours.apply(other, "point")
    assert ours.apply(other, "point", verify=False)["channels"][0]["name"] == "other"


def test_patches_of_a_file_stay_text_until_they_are_used(specs, tmp_path):
    spec = specs["everything"]
    content = patchset(spec)
    other = copy.deepcopy(content["patches"][0])
    other["metadata"].update(name="other", values=[1, "y"])
    content["patches"].append(other)
    text = json.dumps(content, indent=1)
    place = tmp_path / "patches.json"
    place.write_text(text)
    found = read_patchset(place)
    assert list(found.patches) == [entry["patch"] for entry in content["patches"]]
    assert found.patches[-1:] == [other["patch"]]
    assert dict(found.apply(spec, "point")) == dict(read_patchset(content).apply(spec, "point"))
    # a mistake in one patch is said when that one is asked for
    at = text.rindex('"value"')
    place.write_text(f'{text[:at]}"op": "add", {text[at:]}')
    found = read_patchset(place)
    assert found.operations("point") == content["patches"][0]["patch"]
    with pytest.raises(ModelError, match=r"patch of 'other': .* 'op' stands twice"):
        found.operations("other")
    place.write_text(text.replace('"version"', '"version": "1.0.0", "version"'))
    with pytest.raises(ModelError, match="'version' stands twice"):
        read_patchset(place)
    content["patches"][1]["patch"] = {"op": "add"}
    place.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"patches\[1\] needs a name and a list"):
        read_patchset(place)


@pytest.mark.parametrize(
    ("change_of", "message"),
    [
        ({"version": "2"}, "version '2'"),
        ({"patches": []}, "it has no patches"),
        ({"patches": [{"metadata": {"name": "p"}, "patch": []}]}, r"patches\[0\]/metadata has no"),
        ({"patches": [5]}, r"patches\[0\] is no object"),
        ({"patches": [{"metadata": {"name": "p", "values": [1]}, "patch": []}]}, "one value for"),
        ({"metadata": {}}, "its metadata has no 'labels'"),
        ({"metadata": {"labels": "m", "digests": {}, "description": ""}}, "no list of strings"),
        ({"metadata": {"labels": [], "digests": 5, "description": ""}}, "'digests' is no object"),
    ],
)
def test_broken_patch_sets(change_of, message, specs):
    with pytest.raises(ModelError, match=message):
        read_patchset(patchset(specs["everything"], **change_of))


def test_patch_sets_with_points_twice(specs):
    spec = patchset(specs["everything"])
    again = copy.deepcopy(spec["patches"][0])
    again["metadata"]["name"] = "other"
    with pytest.raises(ModelError, match="the point 'other' repeats 'point'"):
        read_patchset(spec | {"patches": [*spec["patches"], again]})
    with pytest.raises(ModelError, match="found a list of 2"):
        read_patchset([spec, spec])
    assert read_patchset([spec]).names == ("point",)


# combine, prune, rename, sort


def pair(specs):
    """Two workspaces that share a channel, a measurement and a setting."""
    left = specs["everything"]
    right = change(left, ("channels", 1, "name"), "VR")
    right = change(right, ("observations", 1, "name"), "VR")
    extra = {"name": "norm", "inits": [0.1]}
    path = ("measurements", 0, "config", "parameters")
    return left, change(right, path, lambda entries: [entries[0], extra])


def outcome(function):
    try:
        return dict(function())
    except (ModelError, pyhf.exceptions.InvalidWorkspaceOperation, ValueError):
        return "refused"


@pytest.mark.parametrize("join", ["none", "outer", "left outer", "right outer", "inner"])
@pytest.mark.parametrize("merge", [False, True])
def test_combinations_are_those_of_pyhf(join, merge, specs):
    left, right = pair(specs)
    renamed = rename(right, channels={"SR": "SR2"}, measurements={"meas": "other"})
    sample = {"name": "more", "data": [1.0, 2.0, 3.0], "modifiers": []}
    merged = change(right, ("channels", 0, "samples"), [sample])
    results = []
    for a, b in ((left, right), (left, renamed), (left, merged), (right, left), (left, left)):
        ours = outcome(lambda a=a, b=b: combine(a, b, join=join, merge_channels=merge))
        theirs = outcome(
            lambda a=a, b=b: pyhf.Workspace.combine(
                pyhf.Workspace(a), pyhf.Workspace(b), join=join, merge_channels=merge
            )
        )
        assert ours == theirs
        results.append(ours == "refused")
    assert all(results) == (join == "inner" or (join == "none" and merge))


def test_combined_measurements_must_agree(specs):
    left, right = pair(specs)
    other = change(right, ("measurements", 0, "config", "poi"), "k")
    with pytest.raises(ModelError, match=r"different parameters of interest \['mu', 'k'\]"):
        combine(left, rename(other, channels={"SR": "S"}), join="outer")
    other = change(right, ("measurements", 0, "config", "parameters", 0, "inits"), [1.1])
    with pytest.raises(ModelError, match=r"different parameter settings .*'meas'.*: \['lumi'\]"):
        combine(left, rename(other, channels={"SR": "S"}), join="outer")
    with pytest.raises(ModelError, match=r"versions 1\.0\.0 and 2\.0\.0"):
        combine(left, right | {"version": "2.0.0"})


def test_pruning_renaming_sorting_are_those_of_pyhf(specs):
    spec = specs["everything"]
    theirs = pyhf.Workspace(spec)
    before = copy.deepcopy(spec)
    for what in (
        {"channels": ["CR"]},
        {"samples": ["fakes"], "modifiers": ["shape", "mu"]},
        {"modifier_types": ["staterror", "normsys"]},
        {},
    ):
        assert dict(prune(spec, **what)) == dict(theirs.prune(**what))
    for what in (
        {"channels": {"SR": "A"}, "samples": {"ttbar": "top"}},
        {"modifiers": {"mu": "strength", "lumi": "lumi"}, "measurements": {"meas": "new"}},
        {},
    ):
        assert dict(rename(spec, **what)) == dict(theirs.rename(**what))
    ordered = sort_workspace(spec)
    assert ordered == dict(pyhf.Workspace.sorted(theirs))
    assert digest(ordered) == pyhf.utils.digest(ordered)
    assert spec == before
    two = spec | {"measurements": [*spec["measurements"], spec["measurements"][0] | {"name": "b"}]}
    assert dict(prune(two, measurements=["b"])) == dict(spec)


def test_unknown_parts(specs):
    spec = specs["everything"]
    for function, what, message in (
        (prune, {"channels": ["SS"]}, "no channel 'SS'. Did you mean 'SR'"),
        (prune, {"modifier_types": ["normfaktor"]}, "no modifier type 'normfaktor'"),
        (prune, {"samples": "ttbar"}, "give a list of samples, not 'ttbar'"),
        (prune, {"measurements": ["meas"]}, "measurements: the list is empty"),
        (rename, {"samples": {"tbar": "x"}}, "no sample 'tbar'. Did you mean 'ttbar'"),
        (rename, {"samples": {"ttbar": "fakes"}}, "two samples are called 'fakes'"),
    ):
        with pytest.raises(ModelError, match=message):
            function(spec, **what)
    with pytest.raises(ModelError, match=r"no digest algorithm 'sha255'. Did you mean"):
        digest(spec, algorithm="sha255")
    with pytest.raises(ModelError, match="cannot compute the digest"):
        digest({"a": object()})


def test_measurements_by_name_and_position(specs):
    spec = specs["everything"]
    other = {
        "name": "b",
        "config": {"poi": "k", "parameters": spec["measurements"][0]["config"]["parameters"]},
    }
    two = spec | {"measurements": [spec["measurements"][0], other]}
    assert from_workspace(two)[0].structure.poi == "mu"
    assert from_workspace(two, measurement="b")[0].structure.poi == "k"
    assert from_workspace(two, measurement=1)[0].structure.poi == "k"
    assert from_workspace(two, poi="k")[0].structure.poi == "k"
    assert from_workspace(two, poi=None)[0].structure.poi is None
    with pytest.raises(ModelError, match=r"no measurement 2: there are 2, \['meas', 'b'\]"):
        from_workspace(two, measurement=2)


def test_partly_held_parameters_are_kept(specs):
    path = ("measurements", 0, "config", "parameters")
    spec = change(specs["shapefactor"], path, [{"name": "free", "fixed": [True, False]}])
    model, data = from_workspace(spec)
    held = dict(zip(model.parameters, np.asarray(model.fixed).tolist(), strict=True))
    assert held == {"free[0]": True, "free[1]": False, "mu": False}
    with pytest.raises(ModelError, match="some entries of parameter 'free' are held"):
        to_workspace(model, data)
    with pytest.raises(ModelError, match="'free' of the measurement: 1 fixed where 2"):
        from_workspace(change(specs["shapefactor"], path, [{"name": "free", "fixed": [True]}]))


def test_arrays_in_mappings(specs):
    spec = change(specs["shapesys"], (*SAMPLE, "data"), np.array([12.0, 11.0]))
    spec = change(spec, ("observations", 0, "data"), jnp.array([51.0, 48.0]))
    model, data = from_workspace(spec)
    other, other_data = from_workspace(specs["shapesys"])
    np.testing.assert_array_equal(model.nominal, other.nominal)
    np.testing.assert_array_equal(data, other_data)
