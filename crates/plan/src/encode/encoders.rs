//! The table of the operations on text: every encoder of the contract, and the value filters of templates.
//!
//! Everything else is derived from it: the functions that a plugin can import, the verification of plans, previews, and
//! what fuzzing and tests try. To add an encoder, add it to the end of the table, to `wit/feature.wit`, and to the
//! author crate; a test compares the table with the contract.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::digest::{self, BytesEncoding, HmacAlgorithm};
use super::escape::{CharacterSet, EscapeTable};
use super::{Args, Clear, Refusal, append_encoded, baresip, config, dotenv, http, refuse, restrict, text, utf8};
use guillemet_template::ValueFilter;

/// The definition of an operation on text.
pub struct EncoderDefinition {
    /// The name of its function in the contract, or of the value filter.
    pub name: &'static str,
    /// The parameters of its function.
    pub signature: Signature,
    /// Where its result may be.
    pub place: Placement,
    /// How it writes text.
    pub(super) form: EncoderForm,
}

/// The parameters of an encoder's function in the contract. Texts come first; they may contain secrets.
pub enum Signature {
    /// One text, for this operation.
    Text(Op),
    /// Two texts, for this operation.
    TwoTexts(Op),
    /// Three texts and the name of a digest algorithm.
    DigestTexts(fn(DigestAlgorithm) -> Op),
    /// A key, a text, the name of an algorithm, and the name of an encoding.
    Hmac(fn(HmacAlgorithm, BytesEncoding) -> Op),
    /// A text, an option about what may be in it, and the reason.
    TextOptionReason(fn(String, String) -> Op),
    /// A text, a number and a reason.
    TextNumberReason(fn(u32, String) -> Op),
    /// A text and a table of how it is written.
    TextTable(fn(EscapeTable) -> Op),
}

/// The parameters of an encoder that follow its texts. Those that it does not have are ignored.
#[derive(Clone, Debug, Default)]
pub struct EncoderOptions {
    /// What may be in the text, or may not.
    pub option: String,
    /// The algorithm of a digest.
    pub algorithm: DigestAlgorithm,
    /// The algorithm of an HMAC.
    pub hmac: HmacAlgorithm,
    /// How an HMAC is written.
    pub encoding: BytesEncoding,
    /// How a text is written.
    pub table: EscapeTable,
    /// The most bytes of the text.
    pub number: u32,
    /// The reason for refusing text.
    pub reason: String,
}

/// Where the result of an encoder may be. Every encoder may also be an argument of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In a string of a JSON document.
    JsonString,
    /// In a string of a JSON document, and inside a URL: it is percent-encoded or has no other character.
    UrlComponent,
    /// A whole string of a JSON document, which is a URL. A secret in it is the whole URL or a
    /// [`Placement::UrlComponent`].
    Url,
    /// In a text document, as the outermost operation on a secret: it is a terminal encoder (`wit/feature.wit`). Also
    /// in a string of a JSON document.
    TextDocument,
}

/// Checks a text.
type Check = fn(&[u8]) -> Result<(), Refusal>;
/// Appends a text in its encoded form.
type Write = fn(&[u8], &mut Clear) -> Result<(), Refusal>;
/// Appends the result of an operation on its arguments.
type Apply = fn(&Op, &Args<'_>, &mut Clear) -> Result<(), Refusal>;

/// How an encoder writes text. Previews show literal text accordingly.
#[derive(Clone, Copy)]
pub(super) enum EncoderForm {
    /// As it is, if the whole text passes.
    Kept(Check),
    /// As it is, if it meets the operation's conditions.
    Restricted {
        /// Checks literal text when the plan is made.
        check_literal: fn(&Op, &str) -> Result<(), Refusal>,
        /// Appends the text and checks it.
        apply: Apply,
    },
    /// Character by character, after a check of the whole text.
    Escaped {
        /// Checks the whole text before it is escaped.
        check: Check,
        /// Appends a part of the text.
        escape: Write,
        /// The quote that is always written before and after it.
        quote: &'static str,
    },
    /// As it is, between quotes if it needs them.
    QuotedIfNeeded(Write),
    /// As a whole: each character depends on its neighbors.
    Whole(Write),
    /// Character by character, as the operation's table says.
    Tabled,
    /// Several texts in one.
    Joined(Apply),
}

impl EncoderForm {
    /// Escapes text, and takes every text that `escape` takes.
    const fn escaped(escape: Write) -> Self {
        Self::quoted(escape, "")
    }

    /// Escapes text between quotes, and takes every text that `escape` takes.
    const fn quoted(escape: Write, quote: &'static str) -> Self {
        Self::Escaped { check: |_| Ok(()), escape, quote }
    }
}

/// Declares [`Op`] and [`ENCODERS`]: a variant with the definition of its encoder for each row.
macro_rules! encoders {
    ($($(#[$doc:meta])* $op:ident $(($option:ty))? $({ $($options:tt)* })? => $definition:expr,)*) => {
        /// An operation on text. Its arguments are `TextParts`; most operations take one.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Op {
            /// A value filter of the template.
            Filter(ValueFilter),
            $($(#[$doc])* $op $(($option))? $({ $($options)* })?,)*
        }

        /// Every encoder of the contract.
        pub static ENCODERS: &[EncoderDefinition] = &[$($definition),*];

        impl Op {
            /// Returns the definition of the operation.
            pub fn definition(&self) -> &'static EncoderDefinition {
                enum Row { $($op),* }
                match self {
                    Self::Filter(filter) => &FILTERS[*filter as usize],
                    $(Self::$op { .. } => &ENCODERS[Row::$op as usize],)*
                }
            }
        }
    };
}

// The corpora of the fuzz targets choose encoders by their position.
encoders! {
    /// `encode.url-query`: percent-encodes a value of a URL's query.
    UrlQuery => EncoderDefinition {
        name: "url-query",
        signature: Signature::Text(Op::UrlQuery),
        place: Placement::UrlComponent,
        form: EncoderForm::escaped(http::percent),
    },
    /// `encode.url-path-segment`: percent-encodes a segment of a URL's path; refuses `.` and `..`.
    UrlPathSegment => EncoderDefinition {
        name: "url-path-segment",
        signature: Signature::Text(Op::UrlPathSegment),
        place: Placement::UrlComponent,
        form: EncoderForm::escaped(http::path_segment),
    },
    /// `encode.url`: accepts only an absolute http(s) URL.
    Url => EncoderDefinition {
        name: "url",
        signature: Signature::Text(Op::Url),
        place: Placement::Url,
        form: EncoderForm::Kept(http::check_url),
    },
    /// `encode.header-value`: accepts only text that can be the value of an HTTP header.
    HeaderValue => EncoderDefinition {
        name: "header-value",
        signature: Signature::Text(Op::HeaderValue),
        place: Placement::JsonString,
        form: EncoderForm::Kept(http::check_header_value),
    },
    /// `encode.base64`: Base64 with padding (RFC 4648, section 4).
    Base64 => EncoderDefinition {
        name: "base64",
        signature: Signature::Text(Op::Base64),
        place: Placement::JsonString,
        form: EncoderForm::Whole(base64),
    },
    /// `encode.basic-credentials`: user and password, for HTTP Basic (RFC 7617).
    BasicCredentials => EncoderDefinition {
        name: "basic-credentials",
        signature: Signature::TwoTexts(Op::BasicCredentials),
        place: Placement::JsonString,
        form: EncoderForm::Joined(digest::basic_credentials),
    },
    /// `encode.sip-digest-ha1`: the hash of user, realm and password (RFC 8760).
    SipDigestHa1(DigestAlgorithm) => EncoderDefinition {
        name: "sip-digest-ha1",
        signature: Signature::DigestTexts(Op::SipDigestHa1),
        place: Placement::JsonString,
        form: EncoderForm::Joined(digest::sip_digest_ha1),
    },
    /// `encode.forbid`: refuses values that contain certain characters.
    Forbid {
        /// The characters that a value may not contain.
        characters: String,
        /// The reason, for the person who has to choose another value.
        reason: String,
    } => EncoderDefinition {
        name: "forbid",
        signature: Signature::TextOptionReason(|characters, reason| Op::Forbid { characters, reason }),
        place: Placement::JsonString,
        form: EncoderForm::Restricted { check_literal: restrict::forbid_in_literal, apply: restrict::forbid },
    },
    /// `encode.forbid-sequence`: refuses values that complete a certain text.
    ForbidSequence {
        /// The text that a value may not introduce.
        sequence: String,
        /// The reason, for the person who has to choose another value.
        reason: String,
    } => EncoderDefinition {
        name: "forbid-sequence",
        signature: Signature::TextOptionReason(|sequence, reason| Op::ForbidSequence { sequence, reason }),
        place: Placement::JsonString,
        form: EncoderForm::Restricted { check_literal: |_, _| Ok(()), apply: restrict::forbid_sequence },
    },
    /// `encode.xml`: escapes character data and attribute values.
    Xml => EncoderDefinition {
        name: "xml",
        signature: Signature::Text(Op::Xml),
        place: Placement::TextDocument,
        form: EncoderForm::escaped(text::xml),
    },
    /// `encode.dotenv`: writes the value of a `NAME=value` line.
    Dotenv => EncoderDefinition {
        name: "dotenv",
        signature: Signature::Text(Op::Dotenv),
        place: Placement::TextDocument,
        form: EncoderForm::QuotedIfNeeded(|text, out| dotenv::value(utf8(text)?, out)),
    },
    /// `encode.asterisk-value`: writes a value of an Asterisk configuration.
    AsteriskValue => EncoderDefinition {
        name: "asterisk-value",
        signature: Signature::Text(Op::AsteriskValue),
        place: Placement::TextDocument,
        form: EncoderForm::Escaped { check: text::check_asterisk_value, escape: text::asterisk_value, quote: "" },
    },
    /// `encode.kamailio-string`: writes a quoted string of a Kamailio configuration.
    KamailioString => EncoderDefinition {
        name: "kamailio-string",
        signature: Signature::Text(Op::KamailioString),
        place: Placement::TextDocument,
        form: EncoderForm::Escaped { check: text::check_kamailio_string, escape: text::kamailio_string, quote: "\"" },
    },
    /// `encode.baresip-parameter`: writes a parameter of a baresip accounts line.
    BaresipParameter => EncoderDefinition {
        name: "baresip-parameter",
        signature: Signature::Text(Op::BaresipParameter),
        place: Placement::TextDocument,
        form: EncoderForm::QuotedIfNeeded(baresip::parameter),
    },
    /// `encode.curl-config`: writes a quoted value of a `curl --config` file.
    CurlConfig => EncoderDefinition {
        name: "curl-config",
        signature: Signature::Text(Op::CurlConfig),
        place: Placement::TextDocument,
        form: EncoderForm::quoted(text::curl_config, "\""),
    },
    /// `encode.at-most`: refuses text that is too long.
    AtMost {
        /// The most bytes of the whole text.
        bytes: u32,
        /// The reason, for the person who has to choose another value.
        reason: String,
    } => EncoderDefinition {
        name: "at-most",
        signature: Signature::TextNumberReason(|bytes, reason| Op::AtMost { bytes, reason }),
        place: Placement::JsonString,
        form: EncoderForm::Restricted { check_literal: |_, _| Ok(()), apply: restrict::at_most },
    },
    /// `encode.json-string`: escapes the content of a JSON string, without its quotes.
    JsonString => EncoderDefinition {
        name: "json-string",
        signature: Signature::Text(Op::JsonString),
        place: Placement::JsonString,
        form: EncoderForm::escaped(text::json_string),
    },
    /// `encode.hex`: lower-case hexadecimal.
    Hex => EncoderDefinition {
        name: "hex",
        signature: Signature::Text(Op::Hex),
        place: Placement::UrlComponent,
        form: EncoderForm::Whole(hex),
    },
    /// `encode.base64url`: Base64 for URLs without padding (RFC 4648, section 5).
    Base64url => EncoderDefinition {
        name: "base64url",
        signature: Signature::Text(Op::Base64url),
        place: Placement::UrlComponent,
        form: EncoderForm::Whole(base64url),
    },
    /// `encode.sha256-hex`: the SHA-256 in lower-case hexadecimal.
    Sha256Hex => EncoderDefinition {
        name: "sha256-hex",
        signature: Signature::Text(Op::Sha256Hex),
        place: Placement::UrlComponent,
        form: EncoderForm::Whole(digest::sha256_hex),
    },
    /// `encode.hmac`: the HMAC of a text with a key (RFC 2104).
    Hmac {
        /// The hash function.
        algorithm: HmacAlgorithm,
        /// How the result is written.
        encoding: BytesEncoding,
    } => EncoderDefinition {
        name: "hmac",
        signature: Signature::Hmac(|algorithm, encoding| Op::Hmac { algorithm, encoding }),
        place: Placement::JsonString,
        form: EncoderForm::Joined(digest::hmac),
    },
    /// `encode.allow`: refuses values that contain other than certain characters.
    Allow {
        /// The characters that a value may contain.
        characters: CharacterSet,
        /// The reason, for the person who has to choose another value.
        reason: String,
    } => EncoderDefinition {
        name: "allow",
        signature: Signature::TextOptionReason(
            |characters, reason| Op::Allow { characters: CharacterSet(characters), reason }
        ),
        place: Placement::JsonString,
        form: EncoderForm::Restricted { check_literal: restrict::allow_in_literal, apply: restrict::allow },
    },
    /// `encode.yaml-string`: writes a double-quoted scalar of YAML.
    YamlString => EncoderDefinition {
        name: "yaml-string",
        signature: Signature::Text(Op::YamlString),
        place: Placement::TextDocument,
        form: EncoderForm::quoted(config::yaml_string, "\""),
    },
    /// `encode.toml-string`: writes a basic string of TOML.
    TomlString => EncoderDefinition {
        name: "toml-string",
        signature: Signature::Text(Op::TomlString),
        place: Placement::TextDocument,
        form: EncoderForm::quoted(config::toml_string, "\""),
    },
    /// `encode.ini-value`: writes the value of a line of an INI file.
    IniValue => EncoderDefinition {
        name: "ini-value",
        signature: Signature::Text(Op::IniValue),
        place: Placement::TextDocument,
        form: EncoderForm::Kept(config::check_ini_value),
    },
    /// `encode.shell-word`: writes a word of a POSIX shell.
    ShellWord => EncoderDefinition {
        name: "shell-word",
        signature: Signature::Text(Op::ShellWord),
        place: Placement::TextDocument,
        form: EncoderForm::quoted(config::shell_word, "'"),
    },
    /// `encode.systemd-env`: writes the value of a line for systemd's `EnvironmentFile=`.
    SystemdEnv => EncoderDefinition {
        name: "systemd-env",
        signature: Signature::Text(Op::SystemdEnv),
        place: Placement::TextDocument,
        form: EncoderForm::Escaped { check: config::check_systemd_env, escape: config::systemd_env, quote: "\"" },
    },
    /// `encode.docker-env`: writes the value of a line for `docker run --env-file`.
    DockerEnv => EncoderDefinition {
        name: "docker-env",
        signature: Signature::Text(Op::DockerEnv),
        place: Placement::TextDocument,
        form: EncoderForm::Kept(config::check_docker_env),
    },
    /// `encode.netrc-token`: writes a token of a netrc file.
    NetrcToken => EncoderDefinition {
        name: "netrc-token",
        signature: Signature::Text(Op::NetrcToken),
        place: Placement::TextDocument,
        form: EncoderForm::QuotedIfNeeded(config::netrc_token),
    },
    /// `encode.escape`: writes a text as a table of the plugin says.
    Escape(EscapeTable) => EncoderDefinition {
        name: "escape",
        signature: Signature::TextTable(Op::Escape),
        place: Placement::TextDocument,
        form: EncoderForm::Tabled,
    },
}

/// Every value filter of templates, in the order of [`ValueFilter`].
pub static FILTERS: [EncoderDefinition; ValueFilter::ALL.len()] = [
    filter(0, Placement::JsonString, EncoderForm::Whole(base64)),
    filter(1, Placement::UrlComponent, EncoderForm::Whole(base64url)),
    filter(2, Placement::UrlComponent, EncoderForm::Whole(hex)),
    filter(3, Placement::UrlComponent, EncoderForm::Whole(http::percent)),
    filter(4, Placement::JsonString, EncoderForm::Whole(trim)),
];

const fn filter(index: usize, place: Placement, form: EncoderForm) -> EncoderDefinition {
    let (name, filter) = ValueFilter::ALL[index];
    EncoderDefinition { name, signature: Signature::Text(Op::Filter(filter)), place, form }
}

fn base64(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    append_encoded(&data_encoding::BASE64, text, out);
    Ok(())
}

fn base64url(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    append_encoded(&data_encoding::BASE64URL_NOPAD, text, out);
    Ok(())
}

fn hex(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    append_encoded(&data_encoding::HEXLOWER, text, out);
    Ok(())
}

/// Appends the text without the white space at both ends; refuses white space alone.
fn trim(text: &[u8], out: &mut Clear) -> Result<(), Refusal> {
    let trimmed = utf8(text)?.trim();
    if trimmed.is_empty() {
        return refuse("the value is empty after `trim`");
    }
    out.extend_from_slice(trimmed.as_bytes());
    Ok(())
}

impl EncoderDefinition {
    /// Returns how many texts the operation takes. They come first among the parameters.
    pub fn texts(&self) -> usize {
        match self.signature {
            Signature::Text(_)
            | Signature::TextOptionReason(_)
            | Signature::TextNumberReason(_)
            | Signature::TextTable(_) => 1,
            Signature::TwoTexts(_) | Signature::Hmac(_) => 2,
            Signature::DigestTexts(_) => 3,
        }
    }

    /// Makes the operation with those of the options that it has.
    pub fn op(&self, options: EncoderOptions) -> Op {
        let EncoderOptions { option, algorithm, hmac, encoding, table, number, reason } = options;
        match &self.signature {
            Signature::Text(op) | Signature::TwoTexts(op) => op.clone(),
            Signature::DigestTexts(op) => op(algorithm),
            Signature::Hmac(op) => op(hmac, encoding),
            Signature::TextOptionReason(op) => op(option, reason),
            Signature::TextNumberReason(op) => op(number, reason),
            Signature::TextTable(op) => op(table),
        }
    }

    /// Reports whether the operation only refuses texts, for a reason that the plugin gives, and changes none.
    pub fn is_restriction(&self) -> bool {
        matches!(self.form, EncoderForm::Restricted { .. })
    }
}

impl Op {
    /// Returns the operation's name as people see it.
    pub fn name(&self) -> &'static str {
        self.definition().name
    }

    /// Returns what is always written before and after the text; empty if there is nothing.
    pub fn quotes(&self) -> (&str, &str) {
        match (self, self.definition().form) {
            (Self::Escape(table), _) => (&table.opening, &table.closing),
            (_, EncoderForm::Escaped { quote, .. }) => (quote, quote),
            _ => ("", ""),
        }
    }

    /// Checks what the plugin gave besides the texts.
    ///
    /// # Errors
    /// Fails with what is wrong, as a clause that follows the name of the operation.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Forbid { characters: option, .. } if option.is_empty() => Err("without a character".into()),
            Self::ForbidSequence { sequence: option, .. } if option.is_empty() => Err("without a sequence".into()),
            Self::Allow { characters, .. } if !characters.is_valid() => {
                Err("without a character, or with a range that ends before it begins".into())
            }
            Self::Escape(table) => table.check(),
            _ => Ok(()),
        }
    }

    /// Returns the bytes of what the plugin gave besides the texts.
    pub fn weight(&self) -> usize {
        let of_table = |table: &EscapeTable| {
            let replacements = table.replacements.iter().map(|(_, text)| text.len() + size_of::<char>()).sum::<usize>();
            let refused = table.refused.iter().map(|(set, reason)| set.0.len() + reason.len()).sum::<usize>();
            table.opening.len() + table.closing.len() + replacements + refused
        };
        match self {
            Self::Escape(table) => of_table(table),
            _ => self.option().map_or(0, |option| option.len()) + self.reasons().map(str::len).sum::<usize>(),
        }
    }

    /// Returns the option that the plugin gave besides texts and a reason; `None` if the operation has none.
    pub fn option(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Forbid { characters: option, .. } | Self::ForbidSequence { sequence: option, .. } => {
                Some(option.into())
            }
            Self::Allow { characters, .. } => Some(characters.0.as_str().into()),
            Self::AtMost { bytes, .. } => Some(bytes.to_string().into()),
            Self::Hmac { algorithm, encoding } => Some(format!("{}, {}", algorithm.name(), encoding.name()).into()),
            Self::Escape(EscapeTable { opening, closing, .. }) => Some(format!("{opening}…{closing}").into()),
            Self::SipDigestHa1(algorithm) => Some(algorithm.name().into()),
            _ => None,
        }
    }

    /// Returns the reasons that the plugin gave for refusals.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        let (one, table) = match self {
            Self::Forbid { reason, .. }
            | Self::ForbidSequence { reason, .. }
            | Self::Allow { reason, .. }
            | Self::AtMost { reason, .. } => (Some(reason.as_str()), &[][..]),
            Self::Escape(table) => (None, &*table.refused),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(table.iter().map(|(_, reason)| reason.as_str()))
    }
}

/// A digest algorithm for SIP (RFC 8760). The default is the one that a challenge without an algorithm means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// MD5, written `MD5` in the contract.
    #[default]
    #[serde(rename = "MD5")]
    Md5,
    /// SHA-256, written `SHA-256` in the contract.
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-512/256, written `SHA-512-256` in the contract.
    #[serde(rename = "SHA-512-256")]
    Sha512_256,
}

impl DigestAlgorithm {
    /// Every algorithm, with its name in the contract.
    pub const ALL: [(&'static str, Self); 3] =
        [("MD5", Self::Md5), ("SHA-256", Self::Sha256), ("SHA-512-256", Self::Sha512_256)];

    /// Returns the algorithm's name in the contract.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}
