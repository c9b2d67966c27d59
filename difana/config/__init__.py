"""Configuration of a method, its folder and its journal: what every command on files shares.

A file is declared as frozen dataclasses (`key`), read with line numbers (`read_file`) and described
for editors (`file_schema`); `held_folder` gives the folder of the result, `Journal` says what is
done.
"""

from __future__ import annotations

from difana._files import jsonable
from difana.config.code import is_code, or_code, plain_by_name
from difana.config.declare import (
    either,
    entries,
    filled,
    json_schema,
    key,
    like,
    only,
    read_mapping,
    section,
)
from difana.config.folder import held_folder, write_json, write_text
from difana.config.journal import Journal
from difana.config.kinds import (
    BOUNDS,
    EDGES,
    EVENTS,
    EXPRESSION,
    FLAG_OR_TEXTS,
    MOST_STEPS,
    NUMBER,
    SEED,
    Kind,
    Nested,
    WrongError,
    choice,
    expressions,
    integer,
    lists_by_name,
    number,
    numbers,
    or_word,
    some_of,
    texts_by_name,
)
from difana.config.places import Node, Problems
from difana.config.read import file_schema, paths_of, read_file, read_values
from difana.config.record import digest, git_hash, versions

__all__ = [
    "BOUNDS",
    "EDGES",
    "EVENTS",
    "EXPRESSION",
    "FLAG_OR_TEXTS",
    "MOST_STEPS",
    "NUMBER",
    "SEED",
    "Journal",
    "Kind",
    "Nested",
    "Node",
    "Problems",
    "WrongError",
    "choice",
    "digest",
    "either",
    "entries",
    "expressions",
    "file_schema",
    "filled",
    "git_hash",
    "held_folder",
    "integer",
    "is_code",
    "json_schema",
    "jsonable",
    "key",
    "like",
    "lists_by_name",
    "number",
    "numbers",
    "only",
    "or_code",
    "or_word",
    "paths_of",
    "plain_by_name",
    "read_file",
    "read_mapping",
    "read_values",
    "section",
    "some_of",
    "texts_by_name",
    "versions",
    "write_json",
    "write_text",
]
