"""What concerns the whole factory: keys, notifications, reports, searches, definitions as a whole, and upkeep."""

from jobfac.api.resources.admin import definitions, keys, notifications, reports, search, upkeep

ENDPOINTS = (
    *definitions.ENDPOINTS,
    *keys.ENDPOINTS,
    *notifications.ENDPOINTS,
    *reports.ENDPOINTS,
    *search.ENDPOINTS,
    *upkeep.ENDPOINTS,
)
