//! Every public type has a name of its own.

use std::path::Path;

use checks::text::files;
use checks::type_names::repeated;

#[test]
fn no_two_public_types_have_one_name() {
    let mut sources = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), ".rs").unwrap();
    sources.retain(|file, _| file.split('/').nth(2) == Some("src"));
    let repeated = repeated(&sources);
    assert!(repeated.is_empty(), "rename all but one of each: {repeated:#?}");
}
