"""The sections of the report of an analysis, one file each."""
