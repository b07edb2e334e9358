#!/bin/sh
# The tests of the pages need a Chromium. Take one that is there, else Playwright's own, else Debian's.
# A headless shell has no windows of its own, and does the same with half the processor time: it comes first.
found=""
for name in "${JOBFAC_TEST_BROWSER:-}" chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
    [ -n "$name" ] && found=$(command -v "$name") && break
done
if [ -z "$found" ]; then
    timeout 120 .venv/bin/python -m playwright install chromium-headless-shell >/dev/null 2>&1 &&
        found=$(find "${PLAYWRIGHT_BROWSERS_PATH:-$HOME/.cache/ms-playwright}" -type f -name '*headless*shell' -perm -u+x 2>/dev/null | head -1)
fi
if [ -z "$found" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing chromium for the tests of the pages"
    apt-get update -qq >/dev/null
    for name in chromium-headless-shell chromium; do
        apt-get install -y -qq --no-install-recommends "$name" >/dev/null 2>&1 && found=$(command -v "$name") && break
    done
fi
mkdir -p .build
if [ -n "$found" ]; then
    echo "$found" >.build/browser
else
    rm -f .build/browser
    echo "NOT TESTED: the pages in a real browser, because there is none; install it with: sudo apt-get install chromium"
fi
