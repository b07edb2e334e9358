"""Drawings as SVG. Colours come from the style sheet; every text is escaped."""
