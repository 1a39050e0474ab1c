// Baseline: the Express quickstart, which decodes a status, prints it and answers 200. Its output is discarded.
const express = require("express");

const app = express();
app.use(express.json());

app.post("/webhooks/message-status", (request, response) => {
  console.log(request.body);
  response.status(200).end();
});

app.listen(Number(process.argv[2]), "127.0.0.1");
