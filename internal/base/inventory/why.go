package inventory

// Why is the reason for which a bundle withholds something. The set is closed.
type Why string

// The reasons.
const (
	Credential Why = "secret"     // would let whoever has it sign in, or guess a password
	Derivative Why = "derivative" // another form of what the bundle shows
	Others     Why = "others"     // names other people or systems
	Container  Why = "container"  // the copy of an answer or of a bundle: what it says of the person stands where it comes from
	Employer   Why = "customer"   // the employer, named once for the whole bundle
)

// Explained says a reason in a sentence.
func (w Why) Explained() string {
	switch w {
	case Credential:
		return "A credential in protected form. It is held so that it can be checked, and left out because it would help whoever finds this file to break in."
	case Derivative:
		return "Another form of something that is in this bundle, for looking it up."
	case Others:
		return "Names other people or systems, whose rights come in too."
	case Container:
		return "A sealed copy of an answer or of a bundle. What it tells is in this bundle from where it comes from."
	case Employer:
		return "The employer, who is named once for the whole bundle."
	}
	return ""
}
