"use strict";
// The pages show times in the zone of the browser.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `jobfac-zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax`;
