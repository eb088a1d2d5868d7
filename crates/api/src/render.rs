//! Rendered configs. The body is the config itself; the rest is in headers.

use hyper::header::HeaderName;

/// Names the target that a config was rendered for, by its present name.
pub const TARGET: HeaderName = HeaderName::from_static("guillemet-target");
/// A condition of a render: a name of the target, present or former. For any other target, nothing is rendered and the
/// answer is a conflict (409).
pub const SAME_TARGET: HeaderName = HeaderName::from_static("guillemet-if-target");
