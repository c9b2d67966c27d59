"""Workspaces in files: pyhf, HS3, HistFactory XML, patch sets; and what is done to them."""
