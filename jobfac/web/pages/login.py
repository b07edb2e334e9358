"""`/login`, `/logout`: by key, or by the link that `jobfac up` printed; and `/theme`, light or dark."""

from starlette.responses import Response

from jobfac.api.auth import cookie_name
from jobfac.api.problems import Problem
from jobfac.store.api_keys import Role
from jobfac.web.page import Page, act, get
from jobfac.web.visit import THEMES, Notice, Visit, local_path

USED = (
    "This link was used before or is too old. Log in with a key, or start `jobfac up` again for another link; "
    "`jobfac keys create --role operator` makes a key. If somebody else used the link, `jobfac keys list` shows the "
    "key of that session, and `jobfac keys revoke` ends it."
)
ENDED = "Your session has ended, or its key was revoked. Log in again."


def login(visit: Visit) -> Response:
    """Show the form, or use a link."""
    goal = local_path(visit.query.get("next", "")) or "/"
    token = visit.query.get("token")
    if token is None:
        ended = ENDED if cookie_name(visit.request) in visit.request.cookies and not _is_in(visit) else ""
        return visit.render("login.html", next=goal, problem=ended)
    if visit.request.method == "HEAD":  # a preview of the link by a mail or chat program must not use it up
        return Response()
    caller = visit.service.authenticator.use_link(token)
    if caller is None:
        return visit.go("/") if _is_in(visit) else visit.render("login.html", 403, next=goal, problem=USED)
    answer = visit.go("/")
    visit.service.authenticator.open_session(visit.request, answer, caller, is_alone=True)
    return answer


def _is_in(visit: Visit) -> bool:
    return visit.service.authenticator.accepts(visit.request)


def enter(visit: Visit) -> Response:
    """Log in with a key."""
    goal = local_path(visit.field("next")) or "/"
    try:
        caller = visit.service.authenticator.check(visit.request, visit.field("key").strip())
    except Problem as problem:
        return visit.render("login.html", problem.status, next=goal, problem=problem.detail)
    answer = visit.go(goal)
    visit.service.authenticator.open_session(visit.request, answer, caller)
    return answer


def leave(visit: Visit) -> Response:
    """Log out: the cookie is of no use any more, wherever a copy of it is."""
    visit.service.authenticator.end_session(visit.request)
    answer = visit.go("/login", Notice("You are logged out."))
    answer.delete_cookie(cookie_name(visit.request))
    return answer


def theme(visit: Visit) -> Response:
    """Store the chosen theme in a cookie."""
    answer = visit.back()
    chosen = visit.field("theme")
    answer.set_cookie("jobfac-theme", chosen if chosen in THEMES else "", max_age=365 * 86400, samesite="lax")
    return answer


PAGES: tuple[Page, ...] = (
    get("/login", login, None),
    act("/login", enter, None),
    act("/logout", leave, None),
    act("/theme", theme, Role.VIEWER),
)
