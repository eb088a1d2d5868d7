// Renders a config at an agent's start: node render.mjs FEATURE/NAME
// GUILLEMET_SOCKET says where the daemon answers: export GUILLEMET_SOCKET="$(guillemet paths socket)"
import http from "node:http";

export function render(template) {
  const socketPath = process.env.GUILLEMET_SOCKET;
  return new Promise((resolve, reject) => {
    http
      .get({ socketPath, path: `/v1/render/${template}` }, (answer) => {
        let body = "";
        answer.setEncoding("utf8");
        answer.on("data", (piece) => (body += piece));
        answer.on("end", () => (answer.statusCode === 200 ? resolve(body) : reject(new Error(body))));
      })
      .on("error", reject);
  });
}

render(process.argv[2]).then(
  (config) => process.stdout.write(config),
  (error) => {
    console.error(error.message);
    process.exitCode = 1;
  },
);
