"""What administrators do: keys, notifications, reports, definitions as a whole, and upkeep."""

from jobfac.api.resources.admin import definitions, keys, notifications, reports, upkeep

ENDPOINTS = (
    *definitions.ENDPOINTS,
    *keys.ENDPOINTS,
    *notifications.ENDPOINTS,
    *reports.ENDPOINTS,
    *upkeep.ENDPOINTS,
)
