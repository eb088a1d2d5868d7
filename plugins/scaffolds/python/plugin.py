"""@title@: where a platform sends its events, and the token it sends with them.

`json` is the body of a request that registers the webhook, `env` what a service reads at its start.
"""

from typing import Any

from guillemet import Document, Feature, Fields, Target, Text, check_url, encode, json_document, text_document


class Plugin(Feature):
    feature = "@name@"
    title = "@title@"
    version = "0.1.0"
    secret_fields = ["url", "token"]
    targets = [
        Target("json", "JSON", "application/json", "@name@.json"),
        Target("env", "dotenv", "text/plain; charset=utf-8", "@name@.env"),
    ]

    def write(self, config: Fields, target: str) -> Document:
        url = config.required("url")
        if url:
            check_url(url)
        token = config.required("token")
        if token:
            token.credential()
        events = config.texts("events")
        for event in events:
            event.check(r"[a-z.]+", "must be lower-case letters and dots, such as `call.ended`")
        if target == "env":
            lines = {"WEBHOOK_URL": url_of(url), "WEBHOOK_TOKEN": token, "WEBHOOK_EVENTS": ",".join(events)}
            return text_document("".join(f"{name}={encode.dotenv(value)}\n" for name, value in lines.items() if value))
        document: dict[str, Any] = {
            "method": "POST",
            "url": url_of(url),
            "headers": {"Authorization": token and encode.header_value(f"Bearer {token}")},
        }
        if events:
            document["events"] = events
        return json_document(document)


def url_of(url: Text | None) -> str | None:
    """One with a secret is looked at when the secret is filled in, any other in `check_url`."""
    return encode.url(url) if url and encode.has_secret(url) else url
