"""A Starlette application that keeps work in memory, by the user whom its signed cookie names.

What it keeps is lost on another instance; the cookie is not.
"""

import itertools
import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidegate_session import TidegateSession

instance = os.environ["INSTANCE"]
users = itertools.count(1)
work = {}


def tell(request, count=None):
    return JSONResponse({"at": instance, "count": count}, headers={"Cache-Control": "no-store"})


async def start(request):
    """A login."""
    user = request.session.setdefault("user", f"{instance} {next(users)}")
    work.setdefault(user, 0)
    return tell(request)


async def count(request):
    user = request.session.get("user")
    if user not in work:
        return JSONResponse({"at": instance, "error": "nobody is at work here"}, 401)
    work[user] += 1
    # A cookie that is another one each time.
    request.session["seen"] = work[user]
    return tell(request, work[user])


async def leave(request):
    work.pop(request.session.get("user"), None)
    request.session.clear()
    return tell(request)


async def change(request):
    """A logout that leaves something in the session."""
    work.pop(request.session.get("user"), None)
    request.session.clear()
    request.session["theme"] = "dark"
    return tell(request)


application = Starlette(
    routes=[
        Route("/open", start, methods=["POST"]),
        Route("/count", count, methods=["POST"]),
        Route("/leave", leave, methods=["POST"]),
        Route("/change", change, methods=["POST"]),
    ],
    middleware=[
        Middleware(SessionMiddleware, secret_key="shared by the versions"),
        Middleware(TidegateSession, user="user"),
    ],
)
