//! Other users of this machine: a thread that is one of them for the kernel, in all it does.

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_res_uid};

use super::missing;

/// Users and a group that no package makes.
pub const AGENT: u32 = 61_001;
pub const OTHER: u32 = 61_002;
pub const GROUP: u32 = 61_100;

/// Whether processes and threads of other users can be started. Where not, the test is skipped.
pub fn can() -> bool {
    missing::is_root("be other users")
        && missing::has_program("curl", "curl")
        && missing::has_program("setpriv", "util-linux")
}

/// Does something in a thread that belongs to another user, in `GROUP` beside a group of its own.
pub fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_thread_groups(&[Gid::from_raw(GROUP)]).unwrap();
            set_thread_gid(Gid::from_raw(uid)).unwrap();
            let uid = Uid::from_raw(uid);
            set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}
