package ca

// Strong is strong.
var Strong = strong
