//! The users of this machine.

/// Returns every user that the system lists. A directory service may not list its users.
///
/// Callers wait for each other, because the system keeps one position in the list for the whole process.
pub fn all() -> Vec<uzers::User> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: `getpwent` is unsafe if two threads call it, because they share its position and its buffer. Nothing else
    // in this program calls it. Here only one thread does so at a time, and it has copied the result before it lets the
    // next one in.
    unsafe { uzers::all_users() }.collect()
}
