//! The owner, permissions and extended attributes of a file, to give them to the file that replaces it. All access is
//! by descriptor.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// The POSIX ACL: who may access a file besides its owner and group.
const ACL: &CStr = c"system.posix_acl_access";
/// Names the template and the target that a file's content was rendered from. It belongs to the content, so a file with
/// other content does not inherit it.
const SOURCE: &CStr = c"user.guillemet";

/// The attributes that a new file gets.
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
    /// 0666, less the bits of the umask.
    Umask,
}

impl Attributes {
    /// Returns the attributes of a file that only this user may read and write.
    pub fn private() -> Self {
        Self { owner: None, mode: NewMode::Exactly(0o600), extended: Vec::new(), source: None }
    }

    /// Returns the attributes of an ordinary new file: mode 0666, less the bits of the umask.
    pub fn ordinary() -> Self {
        Self { mode: NewMode::Umask, ..Self::private() }
    }

    /// Returns the attributes of an open file: owner, group, the nine permission bits, ACL and extended attributes.
    ///
    /// Some attributes were granted to the content and not to the file, so they are left out: setuid, setgid, sticky,
    /// `security.capability` (a program's privileges), `security.ima` and `security.evm` (signatures), and
    /// `user.guillemet`.
    ///
    /// # Errors
    /// The error of the operating system.
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

    /// Replaces the permissions; only the nine permission bits of `mode` count.
    #[must_use]
    pub fn with_mode(self, mode: u32) -> Self {
        Self { mode: NewMode::Exactly(mode & 0o777), ..self }
    }

    /// Adds a note of where the content comes from ([`source`]).
    #[must_use]
    pub fn with_source(self, source: &str) -> Self {
        Self { source: Some(source.to_owned()), ..self }
    }

    /// Returns the mode with which the file is created. Except for an ordinary file, nobody else can open it before
    /// `apply`.
    pub(super) fn creation_mode(&self) -> Mode {
        match self.mode {
            NewMode::Exactly(_) => Mode::RUSR | Mode::WUSR,
            NewMode::Umask => Mode::from_raw_mode(0o666),
        }
    }

    /// Gives these attributes to a file that was created for them.
    ///
    /// # Errors
    /// The error of the operating system, for example if this user may not set an owner.
    pub(super) fn apply(&self, file: &File) -> io::Result<()> {
        // First, while the file still belongs to this user.
        for (name, value) in self.extended.iter().filter(|(name, _)| name.as_c_str() != ACL) {
            match fsetxattr(file, name.as_c_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // Labels of a security module, and attributes that a file system keeps for itself. If this user may not
                // set them, the kernel has given the new file the ones that its policy wants.
                Err(_) if !is_kept_strictly(name) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(source) = &self.source {
            set_source(file, source);
        }
        if let Some((user, group)) = self.owner {
            let current = file.metadata()?;
            if (current.uid(), current.gid()) != (user, group) {
                fchown(file, Some(user), Some(group))?;
            }
            match self.extended.iter().find(|(name, _)| name.as_c_str() == ACL) {
                Some((name, value)) => fsetxattr(file, name.as_c_str(), value, XattrFlags::empty())?,
                // The folder may have given the new file a default ACL.
                None => match fremovexattr(file, ACL) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        // Last, because a change of owner removes bits, and an ACL changes those of the group.
        match self.mode {
            NewMode::Exactly(mode) => file.set_permissions(fs::Permissions::from_mode(mode)),
            NewMode::Umask => Ok(()),
        }
    }
}

/// Reports whether failing to keep an attribute is an error. It is for attributes of users, of administrators and of
/// access control.
fn is_kept_strictly(name: &CStr) -> bool {
    [&b"user."[..], b"trusted.", b"system."].iter().any(|prefix| name.to_bytes().starts_with(prefix))
}

/// Returns the note of where a file's content comes from, or `None` if it has none.
///
/// # Errors
/// `Unsupported` if the file system has no such attributes; otherwise the error of the operating system.
pub fn source(file: &File) -> io::Result<Option<String>> {
    match value(file, SOURCE) {
        Ok(value) => Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned())),
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        Err(error) => Err(error),
    }
}

/// Notes where a file's content comes from. Failure is ignored: without the note, the file counts as somebody else's.
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
            // The list has become longer meanwhile.
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
