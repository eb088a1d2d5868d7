// The types of guillemet.js, for editors. wit/feature.wit says what each encoder does.

/** How `escape` writes a text. A character that is replaced is not refused. */
export interface Escaping {
  opening: string;
  closing: string;
  replacements: { character: string; text: string }[];
  refused: { characters: string; reason: string }[];
}

export declare const encode: {
  hasSecret(text: string | Text): boolean;
  wholeSecret(text: string | Text): boolean;
  urlQuery(text: string | Text): string;
  urlPathSegment(text: string | Text): string;
  url(text: string | Text): string;
  headerValue(text: string | Text): string;
  base64(text: string | Text): string;
  base64url(text: string | Text): string;
  hex(text: string | Text): string;
  sha256Hex(text: string | Text): string;
  hmac(
    key: string | Text,
    text: string | Text,
    algorithm: "SHA-1" | "SHA-256" | "SHA-512",
    encoding: "hex" | "base64" | "base64url",
  ): string;
  basicCredentials(user: string | Text, password: string | Text): string;
  sipDigestHa1(
    user: string | Text,
    realm: string | Text,
    password: string | Text,
    algorithm: "MD5" | "SHA-256" | "SHA-512-256",
  ): string;
  jsonString(text: string | Text): string;
  allow(text: string | Text, characters: string, reason: string): string;
  forbid(text: string | Text, characters: string, reason: string): string;
  forbidSequence(text: string | Text, sequence: string, reason: string): string;
  atMost(text: string | Text, bytes: number, reason: string): string;
  log(message: string | Text): void;
  panic(message: string): void;
  xml(text: string | Text): string;
  dotenv(text: string | Text): string;
  asteriskValue(text: string | Text): string;
  kamailioString(text: string | Text): string;
  baresipParameter(text: string | Text): string;
  curlConfig(text: string | Text): string;
  yamlString(text: string | Text): string;
  tomlString(text: string | Text): string;
  iniValue(text: string | Text): string;
  shellWord(text: string | Text): string;
  systemdEnv(text: string | Text): string;
  dockerEnv(text: string | Text): string;
  netrcToken(text: string | Text): string;
  escape(text: string | Text, table: Escaping): string;
};

/** What `plan` returns: made by `json` or `text`. */
export interface Document {
  tag: "json" | "text";
  val: string;
}

/** A JSON document: the host writes it anew, with the escapes of the format. */
export declare function json(value: unknown): Document;

/** A text document: a terminal encoder goes around every secret in it. */
export declare function text(value: string): Document;

/** Text of the config: never empty, and it may hold secrets. */
export declare class Text {
  readonly text: string;
  readonly path: string;
  problem(message: string, help?: string): void;
  warning(message: string, help?: string): void;
  /** Wants literal text to match. Text with a secret is not known yet and passes. */
  check(pattern: RegExp, message: string): this;
  /** Warns where what ought to be a secret is written into the template in the clear. */
  credential(): this;
}

/** A table of the config. A wrong field is noted and reads as absent. */
export declare class Fields {
  path(name: string): string;
  problem(name: string, message: string, help?: string): void;
  warning(name: string, message: string, help?: string): void;
  /** Any value, as JSON has it. */
  value(name: string): unknown;
  text(name: string): Text | undefined;
  /** Text that must be there. */
  required(name: string): Text | undefined;
  /** Notes a field that is not there. Before any other reader. */
  need(name: string): this;
  choice<Word extends string>(name: string, words: readonly Word[]): Word | undefined;
  flag(name: string): boolean | undefined;
  number(name: string, from: number, to: number): number | undefined;
  texts(name: string): Text[];
  entries(name: string): [string, Text][];
  table(name: string): Fields | undefined;
  tables(name: string): Fields[];
}

/** Wants an absolute http(s) URL that an HTTP client takes; warns where it is not encrypted. */
export declare function checkUrl(url: Text): void;

/** What plugin.js exports. */
export interface Feature {
  feature: string;
  title: string;
  secretFields: string[];
  targets: { id: string; title: string; mediaType: string; fileName: string }[];
  plan(config: Fields, target: string): Document;
}
