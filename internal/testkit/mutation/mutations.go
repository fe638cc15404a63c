package main

// mutations are the broken rules. The line of each is looked for when the program runs, so that a rule
// which moved is not lost sight of.
var mutations = []mutation{}
