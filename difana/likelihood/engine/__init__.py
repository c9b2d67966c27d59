"""The likelihood and its curvature in one pass, behind every fit."""
