"""A rule traced, and rendered in the languages of compilers: knows no engine and no framework."""
