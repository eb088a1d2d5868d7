//! The output of commands that need no daemon, as data files in `tests/cmd`.

#[test]
fn help_and_mistakes() {
    let home = tempfile::tempdir().unwrap();
    let cases = trycmd::TestCases::new();
    cases.env("NO_COLOR", "1").env("HOME", home.path().to_str().unwrap());
    // No variable of the user who runs the tests is used. An empty variable counts as unset.
    let own =
        ["GUILLEMET_HOME", "GUILLEMET_SOCKET", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"];
    for variable in own {
        cases.env(variable, "");
    }
    cases.case("tests/cmd/*.trycmd").run();
}
