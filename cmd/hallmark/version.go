package main

// version is set by the linker (-X main.version); a plain go build leaves "dev".
var version = "dev"
