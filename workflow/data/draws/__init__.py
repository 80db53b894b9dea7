"""What is drawn of each kind of data (workflow.study.kinds): all that training and sampling see, and no judge."""
