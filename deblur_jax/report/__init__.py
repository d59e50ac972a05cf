"""Tables, figures and pages made of evaluations."""
