"""The way in and out: a form with name and password, one-time links, and sign-out.

A link opens the form, and only its button signs in, because a preview of the link must not use it up.
"""

from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, StringConstraints

from console.web.access.control import SignInFailed, TooManyAttempts
from console.web.access.guard import ACCESS, SIGN_IN, local_path
from console.web.filters import count_noun
from console.web.render import environment, parameters, see_other
from console.web.route import Parameters, Route

Secret = Annotated[str, StringConstraints(max_length=200)]


class SignInPage(Parameters):
    """``next`` is the page to go to afterwards; ``link`` the secret of a sign-in link."""

    next: Annotated[str, AfterValidator(local_path), StringConstraints(max_length=2000)] = "/"
    link: Secret = ""


class SignInForm(SignInPage):
    """The form: name and password, or a link."""

    name: Annotated[str, StringConstraints(max_length=64)] = ""
    password: Annotated[str, StringConstraints(max_length=1024, strip_whitespace=False)] = ""


async def view(request: web.Request) -> web.Response:
    """Show the form."""
    return _render(await parameters(request, SignInPage))


async def sign_in(request: web.Request) -> web.Response:
    """Start a session, or show the form again with the reason."""
    form = await parameters(request, SignInForm)
    access = request.app[ACCESS]
    response = see_other(request, form.next)
    if form.link:
        if await access.use_link(request, response, form.link) is None:
            return _render(
                SignInPage(next=form.next), fault="This link was used, or is older than 15 minutes.", status=403
            )
        return response
    try:
        await access.sign_in(request, response, form.name, form.password)
    except SignInFailed as exc:
        left = (
            f"You have {count_noun(exc.tries_left, 'try', 'tries')} left."
            if exc.tries_left
            else "Wait, then try again."
        )
        return _render(form, name=form.name, fault=f"Name or password is wrong. {left}", status=403)
    except TooManyAttempts as exc:
        fault = f"Too many tries. Wait {exc.retry_seconds} s, then try again."
        answer = _render(form, name=form.name, fault=fault, status=429)
        answer.headers["Retry-After"] = str(exc.retry_seconds)
        return answer
    return response


async def sign_out(request: web.Request) -> web.Response:
    """End the session."""
    response = see_other(request, SIGN_IN)
    await request.app[ACCESS].sign_out(request, response)
    return response


def _render(page: SignInPage, *, name: str = "", fault: str = "", status: int = 200) -> web.Response:
    text = (
        environment()
        .get_template("sign_in.html")
        .render(title="Sign in", action=SIGN_IN, next=page.next, link=page.link, name=name, fault=fault)
    )
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


ROUTES = [
    Route("GET", SIGN_IN, view, None, SignInPage, summary="Sign in"),
    Route("POST", SIGN_IN, sign_in, None, SignInForm, summary="Start a session"),
    Route("POST", "/sign-out", sign_out, None, summary="End the session"),
]
