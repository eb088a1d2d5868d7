"""Every kind of field."""

from guillemet import Feature, Target, check_url, encode, json_document


class Plugin(Feature):
    feature = "fields"
    title = "Fields"
    version = "0.1.0"
    secret_fields = ["headers.*", "auth.token"]
    targets = [Target("json", "JSON", "application/json", "a.json")]

    def write(self, config, target):
        why = config.text("fail")
        if why:
            raise ValueError(why)
        url = config.text("url")
        if url:
            check_url(url)
        auth = config.table("auth")
        token = auth and auth.required("token")
        if token:
            token.credential()
        routes = [
            {"name": route.required("name"), "weight": route.need("weight").number("weight", 0, 100)}
            for route in config.tables("routes")
        ]
        document = {
            "mode": config.choice("mode", ["fast", "slow"]),
            "loud": config.flag("loud"),
            "retries": config.number("retries", 0, 10),
            "url": url,
            "headers": {name: encode.header_value(value) for name, value in config.entries("headers").items()},
            "token": token,
            "routes": routes or None,
        }
        return json_document({name: value for name, value in document.items() if value is not None})
