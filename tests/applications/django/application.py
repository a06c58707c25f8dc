"""A Django application with its sessions in the memory of the process."""

import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

from tidegate_session import TidegateSession

instance = os.environ["INSTANCE"]
settings.configure(
    SECRET_KEY=f"of {instance}",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
)


def tell(request):
    return JsonResponse({"at": instance, "count": request.session.get("count")})


def start(request):
    # Against fixation, as `django.contrib.auth.login` does it.
    request.session["user"] = "someone"
    request.session.cycle_key()
    return tell(request)


def count(request):
    if "user" not in request.session:
        return JsonResponse({"at": instance, "error": "nobody is logged in"}, status=401)
    request.session["count"] = request.session.get("count", 0) + 1
    return tell(request)


def leave(request):
    # As `django.contrib.auth.logout` does it. The middleware of the sessions deletes the cookie.
    request.session.flush()
    return tell(request)


def change(request):
    # A logout that leaves something in a new session, so that the cookie is replaced.
    request.session.flush()
    request.session["theme"] = "dark"
    request.scope["tidegate.session"] = "new"
    return tell(request)


urlpatterns = [path(view.__name__.replace("start", "open"), view) for view in (start, count, leave, change)]
application = TidegateSession(get_asgi_application())
