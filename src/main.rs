//! The program's entry point. Everything else is in the library, so that tests can reach it.

fn main() -> std::process::ExitCode {
    guillemet::cli::main()
}
