//! Owner, permissions and extended attributes of a file, for the one that takes its place. All by descriptor.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// Who may read a file beside its owner and group (POSIX ACL).
const ACL: &CStr = c"system.posix_acl_access";
/// Names the template and the target that a file's bytes come from. Belongs to the bytes: no other bytes inherit it.
const SOURCE: &CStr = c"user.guillemet";

/// What a new file gets beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    owner: Option<(u32, u32)>,
    mode: NewMode,
    extended: Vec<(CString, Vec<u8>)>,
    source: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewMode {
    Exactly(u32),
    /// What the umask leaves of 0666.
    Umask,
}

impl Attributes {
    /// Returns those of a file that only this user may read and write.
    pub fn private() -> Self {
        Self { owner: None, mode: NewMode::Exactly(0o600), extended: Vec::new(), source: None }
    }

    /// Returns those of an ordinary new file: 0666, less what the umask takes.
    pub fn ordinary() -> Self {
        Self { mode: NewMode::Umask, ..Self::private() }
    }

    /// Returns those of an open file: owner, group, the nine bits of its permissions, ACL and extended attributes.
    ///
    /// Not kept is what was granted to the bytes and not to the file: setuid, setgid, sticky and
    /// `security.capability` (a program's rights), `security.ima` and `security.evm` (a signature), `user.guillemet`.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut extended = Vec::new();
        for name in names(file)? {
            let of_the_bytes = [c"security.capability", c"security.ima", c"security.evm", SOURCE];
            if !of_the_bytes.contains(&name.as_c_str())
                && let Some(value) = value(file, &name)?
            {
                extended.push((name, value));
            }
        }
        let owner = Some((metadata.uid(), metadata.gid()));
        Ok(Self { owner, mode: NewMode::Exactly(metadata.mode() & 0o777), extended, source: None })
    }

    /// The same with other permissions.
    #[must_use]
    pub fn with_mode(self, mode: u32) -> Self {
        Self { mode: NewMode::Exactly(mode & 0o777), ..self }
    }

    /// The same with a note of where the bytes come from (`source`).
    #[must_use]
    pub fn with_source(self, source: &str) -> Self {
        Self { source: Some(source.to_owned()), ..self }
    }

    /// With which permissions the file is created. Nobody else can open it before `apply`.
    pub(super) fn creation_mode(&self) -> Mode {
        match self.mode {
            NewMode::Exactly(_) => Mode::RUSR | Mode::WUSR,
            NewMode::Umask => Mode::from_raw_mode(0o666),
        }
    }

    /// Gives them to a file that was created for them.
    ///
    /// # Errors
    /// What the system does not allow this user to give.
    pub(super) fn apply(&self, file: &File) -> io::Result<()> {
        // First, while the file is this user's own.
        for (name, value) in self.extended.iter().filter(|(name, _)| name.as_c_str() != ACL) {
            match fsetxattr(file, name.as_c_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // Labels of a security module, and what a file system keeps of its own: where this user may not set
                // them, the kernel has given the new file those that its policy wants.
                Err(_) if !is_kept_strictly(name) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(source) = &self.source {
            set_source(file, source);
        }
        if let Some((user, group)) = self.owner {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (user, group) {
                fchown(file, Some(user), Some(group))?;
            }
            match self.extended.iter().find(|(name, _)| name.as_c_str() == ACL) {
                Some((name, value)) => fsetxattr(file, name.as_c_str(), value, XattrFlags::empty())?,
                // The folder may have given one to the new file.
                None => match fremovexattr(file, ACL) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        // Last: a change of owner takes bits away, and an ACL changes those of the group.
        match self.mode {
            NewMode::Exactly(mode) => file.set_permissions(fs::Permissions::from_mode(mode)),
            NewMode::Umask => Ok(()),
        }
    }
}

/// Whether an attribute that cannot be kept is an error: those of users, of administrators and of access.
fn is_kept_strictly(name: &CStr) -> bool {
    [&b"user."[..], b"trusted.", b"system."].iter().any(|prefix| name.to_bytes().starts_with(prefix))
}

/// Returns what a file's bytes come from, where that is noted.
///
/// # Errors
/// `Unsupported` where the file system has no such attributes; the system's.
pub fn source(file: &File) -> io::Result<Option<String>> {
    match value(file, SOURCE) {
        Ok(value) => Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned())),
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        Err(error) => Err(error),
    }
}

/// Notes what a file's bytes come from, where that can be noted. Without it the file counts as somebody else's.
pub fn set_source(file: &File, source: &str) {
    let _ = fsetxattr(file, SOURCE, source.as_bytes(), XattrFlags::empty());
}

fn names(file: &File) -> io::Result<Vec<CString>> {
    let list = loop {
        let mut list = match flistxattr_query(file) {
            Ok(len) => Vec::with_capacity(len + 256),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        match flistxattr(file, spare_capacity(&mut list)) {
            Ok(_) => break list,
            // It has become longer.
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    };
    Ok(list
        .split(|byte: &u8| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

fn value(file: &File, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut value = match fgetxattr_query(file, name) {
            Ok(len) => Vec::with_capacity(len + 64),
            Err(Errno::NODATA) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match fgetxattr(file, name, spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::RANGE) => {}
            Err(Errno::NODATA) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
