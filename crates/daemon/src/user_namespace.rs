//! Finds out whether the kernel can name every user and group to this process.
//!
//! In a user namespace that does not map all of them, Linux shows one number (as a rule 65534) for each user or group
//! that it cannot name, so this number can be anybody. If all of them are mapped, as in the initial namespace, it is a
//! number like any other. Knows nothing of permissions.

use std::fs;
use std::sync::OnceLock;

/// The number that Linux shows for a user or group that it cannot name, unless it is configured otherwise.
const OVERFLOW: u32 = 65_534;

/// The user and group numbers that can be anybody, if there are such numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverflowIds {
    user: Option<u32>,
    group: Option<u32>,
}

impl OverflowIds {
    /// Returns the numbers in the namespace of this process. They are read once.
    pub fn of_this_process() -> Self {
        static HERE: OnceLock<OverflowIds> = OnceLock::new();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        *HERE.get_or_init(|| Self {
            user: overflow_id(&read("/proc/self/uid_map"), &read("/proc/sys/kernel/overflowuid")),
            group: overflow_id(&read("/proc/self/gid_map"), &read("/proc/sys/kernel/overflowgid")),
        })
    }

    /// Reports whether this number can be any user.
    pub fn is_user(self, uid: u32) -> bool {
        self.user == Some(uid)
    }

    /// Reports whether this number can be any group.
    pub fn is_group(self, gid: u32) -> bool {
        self.group == Some(gid)
    }
}

/// Returns the number that stands for the users that `map` (user_namespaces(7)) leaves out; `None` if it leaves none
/// out. A map that cannot be read counts as leaving some out.
fn overflow_id(map: &str, overflow: &str) -> Option<u32> {
    let counts = map.lines().map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let mapped = counts.sum::<Option<u64>>().unwrap_or(0);
    // The highest number is not a user: it means that there is none.
    (mapped < u32::MAX.into()).then(|| overflow.trim().parse().unwrap_or(OVERFLOW))
}

#[cfg(test)]
impl OverflowIds {
    /// Returns a namespace in which these numbers can be anybody.
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
            assert_eq!(overflow_id(map, overflow), expected, "{map}");
        }
    }
}
