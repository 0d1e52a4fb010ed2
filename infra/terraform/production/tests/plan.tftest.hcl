mock_provider "aws" {
  source          = "../modules/pipeline/tests/mocks"
  override_during = plan
}

mock_provider "aws" {
  alias           = "replica"
  source          = "../modules/pipeline/tests/mocks"
  override_during = plan
}

variables {
  region = "eu-west-1"
}

run "root" {
  command = plan
}

run "with_a_copy_of_the_archive" {
  command = plan

  variables {
    archive_replica_region = "eu-central-1"
  }
}
