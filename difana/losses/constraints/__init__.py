"""Conditions to be met while another loss is minimised."""
