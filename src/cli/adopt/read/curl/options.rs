//! The options of curl [8, its manual], and the meaning of each for a request.

use OptionEffect::{
    Agent, Bearer, Cookie, Data, DataEncoded, Get, Header as Head, Json, Method, Not, NotWith, Output, OutputTo,
    Referer, Seconds, Transfer, TransferBy, Url, UrlQuery, User,
};

/// The effect of an option on the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OptionEffect {
    Header,
    User,
    Bearer,
    Method,
    Url,
    UrlQuery,
    Agent,
    Referer,
    Cookie,
    /// The body. The flag says whether `@` may name a file.
    Data(bool),
    DataEncoded,
    Json,
    Get,
    Seconds,
    /// Only affects curl's output, not the request.
    Output,
    OutputTo,
    /// Affects the transfer; `TransferBy` takes a value.
    Transfer,
    TransferBy,
    /// Not supported, for this reason; `NotWith` takes a value.
    Not(&'static str),
    NotWith(&'static str),
}

const FORM: OptionEffect = NotWith("sends a form with parts; a custom action sends JSON");
const FILE: OptionEffect = NotWith("reads another file, which adopt does not read");
const CLIENT: OptionEffect = NotWith("is a client certificate, which custom actions do not support");
const SCHEME: OptionEffect = Not("selects an authentication method that custom actions do not support");
const ROUTE: OptionEffect = NotWith("sends the request another way");

/// The known options: long name, short name (`\0` for none), and effect.
pub const OPTIONS: &[(&str, char, OptionEffect)] = &[
    ("header", 'H', Head),
    ("user", 'u', User),
    ("oauth2-bearer", '\0', Bearer),
    ("request", 'X', Method),
    ("url", '\0', Url),
    ("url-query", '\0', UrlQuery),
    ("user-agent", 'A', Agent),
    ("referer", 'e', Referer),
    ("cookie", 'b', Cookie),
    ("data", 'd', Data(true)),
    ("data-ascii", '\0', Data(true)),
    ("data-binary", '\0', Data(true)),
    ("data-raw", '\0', Data(false)),
    ("data-urlencode", '\0', DataEncoded),
    ("json", '\0', Json),
    ("get", 'G', Get),
    ("max-time", 'm', Seconds),
    ("silent", 's', Output),
    ("show-error", 'S', Output),
    ("verbose", 'v', Output),
    ("include", 'i', Output),
    ("show-headers", '\0', Output),
    ("fail", 'f', Output),
    ("fail-with-body", '\0', Output),
    ("progress-bar", '#', Output),
    ("no-progress-meter", '\0', Output),
    ("no-buffer", 'N', Output),
    ("globoff", 'g', Output),
    ("remote-name", 'O', Output),
    ("output", 'o', OutputTo),
    ("write-out", 'w', OutputTo),
    ("dump-header", 'D', OutputTo),
    ("location", 'L', Transfer),
    ("location-trusted", '\0', Transfer),
    ("compressed", '\0', Transfer),
    ("insecure", 'k', Transfer),
    ("ipv4", '4', Transfer),
    ("ipv6", '6', Transfer),
    ("http1.1", '\0', Transfer),
    ("http2", '\0', Transfer),
    ("tlsv1.2", '\0', Transfer),
    ("tlsv1.3", '\0', Transfer),
    ("basic", '\0', Output),
    ("connect-timeout", '\0', TransferBy),
    ("retry", '\0', TransferBy),
    ("retry-delay", '\0', TransferBy),
    ("max-redirs", '\0', TransferBy),
    ("cacert", '\0', TransferBy),
    ("form", 'F', FORM),
    ("form-string", '\0', FORM),
    ("upload-file", 'T', FILE),
    ("config", 'K', FILE),
    ("netrc", 'n', Not("reads another file, which adopt does not read")),
    ("netrc-file", '\0', FILE),
    ("cert", 'E', CLIENT),
    ("key", '\0', CLIENT),
    ("digest", '\0', SCHEME),
    ("ntlm", '\0', SCHEME),
    ("negotiate", '\0', SCHEME),
    ("anyauth", '\0', SCHEME),
    ("aws-sigv4", '\0', NotWith("signs the request in a way that custom actions do not support")),
    ("proxy", 'x', ROUTE),
    ("unix-socket", '\0', ROUTE),
    ("resolve", '\0', ROUTE),
    ("connect-to", '\0', ROUTE),
    ("head", 'I', Not("requests only headers; custom actions support GET, POST, PUT, PATCH and DELETE")),
    ("next", ':', Not("starts a second request")),
];

impl OptionEffect {
    /// Reports whether the option takes a value: the rest of its word, or the next word.
    pub fn takes_value(self) -> bool {
        !matches!(self, Get | Output | Transfer | Not(_))
    }
}
