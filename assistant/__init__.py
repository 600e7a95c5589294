"""Assistant: windows become verdicts, incidents, diagnoses and answers."""
