//! The help of every command, as it is printed: a change of it is seen in review.

use clap::{Command, CommandFactory as _};
use forebay::commands::ForebayCommand;

fn helps(command: &mut Command, path: &str, found: &mut Vec<(String, String)>) {
    let help = command.render_long_help().to_string();
    // What every command takes is shown once, with the program's own help.
    let own =
        if path == "forebay" { &help } else { help.split("\nWhat is printed and asked:").next().unwrap_or(&help) };
    let own = own.split("\nHow the pipeline is reached:").next().filter(|_| path != "forebay").unwrap_or(own);
    let trimmed: Vec<&str> = own.lines().map(str::trim_end).collect();
    found.push((path.to_owned(), trimmed.join("\n").trim_end().to_owned()));
    for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
        let path = format!("{path} {}", child.get_name());
        helps(child, &path, found);
    }
}

#[test]
fn the_help_of_every_command() {
    let mut command = ForebayCommand::command();
    command.build();
    let mut found = Vec::new();
    helps(&mut command, "forebay", &mut found);
    let all: Vec<String> = found.into_iter().map(|(path, help)| format!("===== {path}\n{help}\n")).collect();
    insta::assert_snapshot!("help", all.join("\n"));
}

#[test]
fn the_arguments_fit_together() {
    ForebayCommand::command().debug_assert();
}
