//! Whether the kernel can name every user and group to this process.
//!
//! In a user namespace that does not map all of them, Linux shows one number (65534, as a rule) in place of each it
//! cannot name: whoever has it may be anybody. Where all of them are mapped, as in the first namespace, it is a number
//! like any other. Knows nothing of who may what.

use std::fs;
use std::sync::OnceLock;

/// What Linux shows in place of a user or group that it cannot name, unless it was told otherwise.
const OVERFLOW: u32 = 65_534;

/// The numbers that stand for nobody in particular.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unnamed {
    user: Option<u32>,
    group: Option<u32>,
}

impl Unnamed {
    /// Returns those of the namespace that this process is in. They are asked for once.
    pub fn here() -> Self {
        static HERE: OnceLock<Unnamed> = OnceLock::new();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        *HERE.get_or_init(|| Self {
            user: stand_in(&read("/proc/self/uid_map"), &read("/proc/sys/kernel/overflowuid")),
            group: stand_in(&read("/proc/self/gid_map"), &read("/proc/sys/kernel/overflowgid")),
        })
    }

    /// Whether this number may stand for any user.
    pub fn is_user(self, uid: u32) -> bool {
        self.user == Some(uid)
    }

    /// Whether this number may stand for any group.
    pub fn is_group(self, gid: u32) -> bool {
        self.group == Some(gid)
    }
}

/// The number that stands for those a map (user_namespaces(7)) leaves out, if it leaves any out. What cannot be read
/// leaves some out.
fn stand_in(map: &str, overflow: &str) -> Option<u32> {
    let counts = map.lines().map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let mapped = counts.sum::<Option<u64>>().unwrap_or(0);
    // The highest number is no user: it says that there is none.
    (mapped < u32::MAX.into()).then(|| overflow.trim().parse().unwrap_or(OVERFLOW))
}

#[cfg(test)]
impl Unnamed {
    /// Those of a namespace in which these numbers stand for nobody in particular.
    pub fn of(user: Option<u32>, group: Option<u32>) -> Self {
        Self { user, group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_all_are_mapped_does_every_number_name_somebody() {
        for (map, overflow, expected) in [
            ("         0          0 4294967295\n", "65534\n", None),
            ("0 0 1000\n1000 100000 1\n1001 1001 4294966294\n", "65534\n", None),
            ("0 100000 65536\n", "65534\n", Some(65_534)),
            ("0 100000 65536\n", "99\n", Some(99)),
            ("65534 0 1\n", "", Some(65_534)),
            ("", "65534\n", Some(65_534)),
            ("no map", "65534\n", Some(65_534)),
        ] {
            assert_eq!(stand_in(map, overflow), expected, "{map}");
        }
    }
}
