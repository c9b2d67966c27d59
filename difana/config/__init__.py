"""Configuration of a method, its folder and its journal: what every command on files shares.

A file is declared as frozen dataclasses (`key`), read with line numbers (`read_file`) and described
for editors (`file_schema`); `held_folder` gives the folder of the result, `Journal` says what is
done.
"""

from difana._files import jsonable as jsonable
from difana.config.declare import entries as entries
from difana.config.declare import filled as filled
from difana.config.declare import json_schema as json_schema
from difana.config.declare import key as key
from difana.config.declare import like as like
from difana.config.declare import only as only
from difana.config.declare import read_mapping as read_mapping
from difana.config.declare import section as section
from difana.config.folder import held_folder as held_folder
from difana.config.folder import write_json as write_json
from difana.config.folder import write_text as write_text
from difana.config.journal import Journal as Journal
from difana.config.kinds import BOUNDS as BOUNDS
from difana.config.kinds import EDGES as EDGES
from difana.config.kinds import EVENTS as EVENTS
from difana.config.kinds import EXPRESSION as EXPRESSION
from difana.config.kinds import NUMBER as NUMBER
from difana.config.kinds import SEED as SEED
from difana.config.kinds import Nested as Nested
from difana.config.kinds import choice as choice
from difana.config.kinds import expressions as expressions
from difana.config.kinds import integer as integer
from difana.config.kinds import number as number
from difana.config.kinds import numbers as numbers
from difana.config.places import Node as Node
from difana.config.places import Problems as Problems
from difana.config.read import file_schema as file_schema
from difana.config.read import paths_of as paths_of
from difana.config.read import read_file as read_file
from difana.config.record import digest as digest
from difana.config.record import git_hash as git_hash
from difana.config.record import versions as versions

__all__ = [
    "BOUNDS",
    "EDGES",
    "EVENTS",
    "EXPRESSION",
    "NUMBER",
    "SEED",
    "Journal",
    "Nested",
    "Node",
    "Problems",
    "choice",
    "digest",
    "entries",
    "expressions",
    "file_schema",
    "filled",
    "git_hash",
    "held_folder",
    "integer",
    "json_schema",
    "jsonable",
    "key",
    "like",
    "number",
    "numbers",
    "only",
    "paths_of",
    "read_file",
    "read_mapping",
    "section",
    "versions",
    "write_json",
    "write_text",
]
