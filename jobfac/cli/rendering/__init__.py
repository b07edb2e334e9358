"""Rendering of JSON, tables, trees and the screen of `jobfac top`."""
