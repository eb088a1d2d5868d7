//! Other users of this machine: a thread that the kernel treats as another user in everything it does.

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_res_uid};

use guillemet_testing::missing;

/// Numbers of users and of a group that no package uses.
pub const AGENT: u32 = 61_001;
pub const OTHER: u32 = 61_002;
pub const GROUP: u32 = 61_100;

/// Reports whether processes and threads of other users can be started. If not, the test is reported as skipped.
pub fn can() -> bool {
    missing::is_root("be other users")
        && missing::has_program("curl", "curl")
        && missing::has_program("setpriv", "util-linux")
}

/// Runs some work in a thread of another user, who is in `GROUP` and in a group with the user's own number.
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
