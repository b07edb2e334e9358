"""What the buttons beside a job's start URLs do."""

from starlette.responses import Response

from jobfac.errors import Invalid
from jobfac.operations import start_urls
from jobfac.states import Role
from jobfac.web import commands
from jobfac.web.page import Page, act
from jobfac.web.visit import Notice, Visit


def create(visit: Visit) -> Response:
    """Make a URL that starts the job, and show it once."""
    job, name = visit.path("job"), visit.field("name").strip()
    if not 1 <= len(name) <= 100:
        raise Invalid("Say who calls, in 1 to 100 characters.")
    url = visit.request.url
    made = start_urls.create(visit.service.db, visit.by, job, name)
    shown = start_urls.address(visit.service.public_url or f"{url.scheme}://{url.netloc}", made)
    text = f"A POST to this URL starts {made.job}. It is not shown again: {shown}"
    return visit.go(f"/jobs/{made.job}", Notice(text, commands.line("jobs", "url", made.job, "--name", name)))


def revoke(visit: Visit) -> Response:
    """Revoke a URL."""
    job, number = visit.path("job"), visit.path("url")
    start_urls.revoke(visit.service.db, visit.by, job, number)
    line = commands.line("jobs", "url", job, "--revoke", "--id", number)
    return visit.go(f"/jobs/{job}", Notice(f"URL {number} of {job} is revoked.", line))


PAGES: tuple[Page, ...] = (
    act("/jobs/{job}/urls", create, Role.ADMIN),
    act("/jobs/{job}/urls/{url:id}/revoke", revoke, Role.ADMIN),
)
