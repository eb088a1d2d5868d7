//! The users of this machine.

/// Returns every user that the system lists. A directory service may list none of its own.
///
/// Takes its turn: the system keeps one place in the list for the whole process.
pub fn all() -> Vec<uzers::User> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: `getpwent` is unsafe where two threads call it: its place and its buffer are shared. Nothing else in
    // this program calls it, and here one thread does at a time, which has copied what it got before it ends.
    unsafe { uzers::all_users() }.collect()
}
