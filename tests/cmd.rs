//! What the command line says where no daemon is needed, as data files in `tests/cmd`.

#[test]
fn help_and_mistakes() {
    trycmd::TestCases::new().env("NO_COLOR", "1").case("tests/cmd/*.trycmd").run();
}
