"""Tables, figures and the HTML report of runs, drawn from the files of run folders and never from a model."""
