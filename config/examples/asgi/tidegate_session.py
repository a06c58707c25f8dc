"""Tells Tidegate that a request ended its session: an ASGI middleware, for Starlette, FastAPI and Django.

From outside, a logout often cannot be told from an ordinary answer: the cookie stays in the browser, or another one
takes its place. With this middleware the answer to a request that ended its session carries `Tidegate-Session: end`, or
`new` when another session was opened in its place. Tidegate takes the field off before the answer goes to the client,
closes the session, and sends the client's next request to the newest generation.

Starlette and FastAPI: put it inside of SessionMiddleware, which is added after it. A session that had something in it
and is empty when the answer begins has ended; one whose user is another has been replaced, if `user` says where the
session keeps its user:

    app.add_middleware(TidegateSession, user="user")
    app.add_middleware(SessionMiddleware, secret_key=…)

The cookie of SessionMiddleware holds the session itself and changes with it, so it names nothing; let the gateway issue
a cookie (`issue = "tidegate"`) to keep a client where its other state is.

Django (`application = TidegateSession(get_asgi_application())`), and everything else that ends sessions by itself: say
so where it happens, in the scope of the request. Django's own `logout` deletes the cookie, which Tidegate sees without
help; this is for a view that goes on to fill a new session:

    request.scope["tidegate.session"] = "new"

Not seen: a session that ends outside of its own request, or after the answer has begun. These close at Tidegate's idle
timeout.
"""


class TidegateSession:
    def __init__(self, app, user=None):
        self.app, self.user = app, user

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        before = dict(scope.get("session") or {})

        async def send_with_session(message):
            if message["type"] == "http.response.start":
                said = scope.get("tidegate.session") or self.compare(before, scope.get("session") or {})
                if said:
                    field = (b"tidegate-session", said.encode("ascii"))
                    message = {**message, "headers": [*message.get("headers", []), field]}
            await send(message)

        await self.app(scope, receive, send_with_session)

    def compare(self, before, after):
        if before and not after:
            return "end"
        if self.user in before and before[self.user] != after.get(self.user):
            return "new"
        return None
