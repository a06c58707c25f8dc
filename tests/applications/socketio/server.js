// A Socket.IO server that counts in its sockets, and lets the tabs of one browser talk to each other.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const [port, instance] = process.argv.slice(2);
// The client that the server itself hands out, on the transports that the page's address names.
const page = `<!doctype html><title>${instance}</title><link rel="icon" href="data:,">
<script src="/socket.io/socket.io.js"></script>
<script>
  const socket = io({ transports: location.search.slice(1).split("+"), reconnection: false });
  const heard = [];
  socket.on("said", (word) => heard.push(word));
</script>`;
const server = createServer((request, response) => response.setHeader("Content-Type", "text/html").end(page));
new Server(server).on("connection", (socket) => {
  let count = 0;
  const tell = (done) => done({ at: instance, count, by: socket.conn.transport.name });
  socket.on("where", tell);
  socket.on("count", (done) => {
    count += 1;
    tell(done);
  });
  socket.on("join", async (room, done) => {
    await socket.join(room);
    tell(done);
  });
  socket.on("say", (room, word, done) => {
    socket.to(room).emit("said", word);
    tell(done);
  });
});
server.listen(port, "127.0.0.1");
