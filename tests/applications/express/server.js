// An application that does with sessions what Express applications do, with the store that express-session brings.
"use strict";

const express = require("express");
const session = require("express-session");
const tidegate = require("../../../config/examples/express/tidegate.js");

const [port = process.env.PORT, instance = process.env.TIDEGATE_GENERATION, bare] = process.argv.slice(2);
const app = express();
app.use(session({ secret: `of ${instance}`, resave: false, saveUninitialized: false }));
if (!bare) app.use(tidegate({ user: (session) => session.user }));

const tell = (request, response) => response.json({ at: instance, count: request.session?.count ?? null });

// Against fixation, as the documentation tells to do at every login.
app.post("/open", (request, response, next) => {
  const count = request.session.count;
  request.session.regenerate((error) => {
    if (error) return next(error);
    Object.assign(request.session, { user: "someone", count });
    tell(request, response);
  });
});
app.post("/count", (request, response) => {
  if (!request.session.user) return response.sendStatus(401);
  request.session.count = (request.session.count ?? 0) + 1;
  tell(request, response);
});
app.post("/leave", (request, response, next) => {
  request.session.destroy((error) => (error ? next(error) : tell(request, response)));
});
// As Passport does it: another session takes the place of the one that ended.
app.post("/change", (request, response, next) => {
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.theme = "dark";
    tell(request, response);
  });
});
app.get("/ready", (request, response) => response.sendStatus(204));
app.listen(port, "127.0.0.1");
