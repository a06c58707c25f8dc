// Tells Tidegate that a request ended its session.
//
// express-session leaves its cookie in the browser after `req.session.destroy()`, so that from outside a logout cannot
// be told from an ordinary answer. With this middleware the answer to a request whose session was destroyed carries
// `Tidegate-Session: end`, and `new` when another user's session, or nobody's, was put in its place. Tidegate takes the
// field off before the answer goes to the client, closes the session, and sends the client's next request to the newest
// generation. A session that `req.session.regenerate()` gave another id at a login goes on where it is.
//
// It stands behind express-session and before everything that ends sessions:
//
//     app.use(session({ … }));
//     app.use(tidegate());
//
// `user` says whose a session is, for applications whose logout regenerates the session instead of destroying it;
// unless given, it is where Passport keeps that: `tidegate({ user: (session) => session.passport?.user })`.
//
// Not seen: a session that ends outside of its own request, and one that is destroyed after the answer's head has gone
// out. These close at Tidegate's idle timeout.
"use strict";

module.exports = function tidegate({ user = (session) => session.passport?.user } = {}) {
  return function (request, response, next) {
    // None where this stands before express-session, and while the store of the sessions is out of reach.
    if (!request.session) return next();
    const before = user(request.session);
    const writeHead = response.writeHead;
    response.writeHead = function (...head) {
      if (!response.headersSent) {
        if (!request.session) response.setHeader("Tidegate-Session", "end");
        else if (before !== undefined && user(request.session) !== before) response.setHeader("Tidegate-Session", "new");
      }
      return writeHead.apply(response, head);
    };
    next();
  };
};
