"""`bench --tools`: what tools that misbehave change about the audio of all calls, and how soon tools begin."""
