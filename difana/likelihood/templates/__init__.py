"""From events to sums, and from sums to channels."""
