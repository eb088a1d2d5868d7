//! The embedded built-in plugins: every case of `plugins/*/cases` runs through the real component in a real planner
//! (promises Blind, Once and Whole). `crates/plugin/src/cases` describes how a case is written.

use std::path::Path;
use std::sync::Arc;

use guillemet_builtin as builtin;
use guillemet_plugin::cases;
use guillemet_plugin::client::{NoCache, Planner, PlannerOptions};

const PROGRAM: &str = env!("CARGO_BIN_EXE_guillemet");

#[tokio::test]
async fn every_case_holds_in_the_embedded_component() {
    let mut report = String::new();
    for builtin in &builtin::ALL {
        let options = PlannerOptions { program: PROGRAM.into(), ..PlannerOptions::default() };
        let planner = Planner::with_options(builtin.feature, builtin.component, Arc::new(NoCache), options);
        let description = planner.load().await.expect("a description");
        assert_eq!(description.feature, builtin.feature);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(builtin.feature).join("cases");
        let files = cases::read(&folder).expect("cases");
        for file in &files {
            for case in &file.cases {
                let found = cases::run(&planner, &description, case).await;
                for difference in cases::compare(case, &found) {
                    report += &format!("{}:{}: {}\n{difference}\n\n", file.path.display(), case.line, case.name);
                }
            }
        }
        for gap in cases::gaps(&description, &files) {
            report += &format!("{}: {gap}\n\n", builtin.feature);
        }
    }
    assert!(report.is_empty(), "\n{report}");
}
